package dashboard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-taskmanager/taskmanager"
)

// paths are those of the tasks that a list has, in its order.
func (s *site) paths(query string) (paths []string) {
	s.t.Helper()
	w := s.get("tasks.json?" + query)
	require.Equal(s.t, http.StatusOK, w.Code, w.Body)
	for _, task := range decode[struct{ Tasks []struct{ Path []string } }](s.t, w).Tasks {
		paths = append(paths, pathText(task.Path))
	}
	return paths
}

// startOneOfEach starts a task for each kind of trouble, and some that are well.
func (s *site) startOneOfEach() {
	s.start("failed", fail, taskmanager.WithMaxRestarts(0))
	s.start("critical completed", func(context.Context) error { return nil }, taskmanager.WithCritical())
	stuck := s.start("stuck", func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(time.Hour)
		return nil
	})
	s.start("crash loop", fail, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithBackoff(time.Second, time.Second))
	s.start("failing", func(ctx context.Context) error {
		if run, _ := taskmanager.RunFromContext(ctx); run < 2 {
			return errRefused
		}
		select {
		case <-time.After(20 * time.Second):
		case <-ctx.Done():
		}
		return errRefused
	}, taskmanager.WithBackoff(20*time.Second, 20*time.Second))
	s.start("not ready", park, taskmanager.WithReadiness(time.Hour))
	s.start("waits", park, taskmanager.WithDependsOn("not ready"))
	paused := s.start("paused", park)
	s.start("well", park)
	s.start("completed", func(context.Context) error { return nil })
	stopped := s.start("stopped", park)
	s.start("stopping", func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(time.Hour)
		return nil
	}, taskmanager.WithStopTimeout(time.Hour))
	synctest.Wait()
	_ = stuck.Stop(s.t.Context())
	_ = paused.Pause(s.t.Context())
	_ = stopped.Stop(s.t.Context())
	asked, cancel := context.WithCancel(s.t.Context())
	cancel()
	_ = s.manager.StopTask(asked, "stopping")
	time.Sleep(50 * time.Second)
	synctest.Wait()
}

func TestListShowsTroubleFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		s.startOneOfEach()
		want := []string{
			"failed", "critical completed", "stuck", "crash loop", "failing", "not ready", "waits", "stopping", "paused", "well", "completed", "stopped",
		}
		assert.Equal(t, want, s.paths(""))
		slices.Reverse(want)
		want[5], want[6] = want[6], want[5] // the order of names is the same in both directions
		assert.Equal(t, want, s.paths("desc=1"))
		body := s.get("").Body.String()
		for _, reason := range []string{"given up", "critical and completed", "crash loop", "failing", "not ready"} {
			assert.Contains(t, body, "<small>"+reason+"</small>")
		}
		time.Sleep(2 * time.Hour) // what does not return does
	})
}

// Each column sorts all tasks, and not those of a page; what has nothing to sort by is the last in both directions.
func TestListSorts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		say := func(status string) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				taskmanager.SetStatus(ctx, "%s", status)
				return park(ctx)
			}
		}
		fails := func(times uint64, pause time.Duration) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				if run, _ := taskmanager.RunFromContext(ctx); run > times {
					return park(ctx)
				}
				time.Sleep(pause)
				return errRefused
			}
		}
		unlimited := []taskmanager.TaskOption{taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithBackoff(0, 0)}
		s.start("c", say("x"))
		s.start("b", say("y"))
		time.Sleep(time.Second)
		s.start("a", fails(3, time.Millisecond), unlimited...)
		s.start("d", fails(1, time.Second), unlimited...)
		s.start("e", taskmanager.Every(time.Hour, func(context.Context) error { return nil }))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for query, want := range map[string][]string{
			"sort=name":            {"a", "b", "c", "d", "e"},
			"sort=name&desc=1":     {"e", "d", "c", "b", "a"},
			"sort=status":          {"c", "b", "a", "d", "e"},
			"sort=status&desc=1":   {"b", "c", "a", "d", "e"},
			"sort=failures":        {"b", "c", "e", "d", "a"},
			"sort=failures&desc=1": {"a", "d", "b", "c", "e"},
			"sort=runs&desc=1":     {"a", "d", "b", "c", "e"},
			"sort=restarts&desc=1": {"a", "d", "b", "c", "e"},
			"sort=error&desc=1":    {"d", "a", "b", "c", "e"},
			"sort=error":           {"a", "d", "b", "c", "e"},
			"sort=next":            {"e", "a", "b", "c", "d"},
			"sort=uptime":          {"d", "a", "e", "b", "c"},
			"sort=uptime&desc=1":   {"b", "c", "e", "a", "d"},
			"sort=state":           {"a", "b", "c", "d", "e"},
		} {
			assert.Equal(t, want, s.paths(query), query)
			for page := range 2 { // of ten, of which the second is not there
				if w := s.get(fmt.Sprintf("tasks.json?%s&per=10&page=%d", query, page+1)); page > 0 {
					assert.Equal(t, http.StatusNotFound, w.Code)
				}
			}
		}
	})
}

func TestListPages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		for i := range 25 {
			s.start(fmt.Sprintf("%02d", i), park)
		}
		assert.Equal(t, []string{"10", "11", "12", "13", "14", "15", "16", "17", "18", "19"}, s.paths("per=10&page=2&sort=name"))
		assert.Equal(t, []string{"20", "21", "22", "23", "24"}, s.paths("per=10&page=3&sort=name"))
		body := s.get("?per=10&page=2&q=&sort=name").Body.String()
		assert.Contains(t, body, "11 to 20 of 25, page 2 of 3")
		for _, link := range []string{`"./?per=10&amp;sort=name">First`, `"./?per=10&amp;sort=name">Previous`, `"./?page=3&amp;per=10&amp;sort=name">Next`, `"./?page=3&amp;per=10&amp;sort=name">Last`} {
			assert.Contains(t, body, link)
		}
		assert.Contains(t, body, `aria-sort="ascending"><a href="./?desc=1&amp;per=10&amp;sort=name">Task`)
		assert.Contains(t, s.get("?q=x").Body.String(), "No task is like that.")
		assert.Contains(t, newSite(t).get("").Body.String(), "There are no tasks.")
	})
}

func TestListFilters(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		s.start("Alpha", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "reads BETA")
			return park(ctx)
		})
		s.start("beta", park)
		s.start("gamma", func(context.Context) error { return errors.New("no answer of Beta") })
		s.start("delta", func(context.Context) error { return &oddError{func() { panic("beta") }} })
		s.start("group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("beta", park)
			return err
		}))
		synctest.Wait()
		assert.Equal(t, []string{"gamma", "Alpha", "beta", "group / beta"}, s.paths("q=beta"))
		assert.Equal(t, []string{"gamma", "Alpha", "beta", "group / beta"}, s.paths("q=+BETA+"))
		assert.Equal(t, []string{"gamma"}, s.paths("q=beta&state=backoff"))
		assert.Equal(t, []string{"delta", "gamma"}, s.paths("state=backoff&state=failed"))
		assert.Equal(t, []string{"group / beta"}, s.paths("q=group/b"))
		assert.Equal(t, []string{"Alpha", "beta", "group / beta", "group"}, s.paths("state=running&state="))
		assert.Contains(t, s.get("?q=group/b").Body.String(), "<small>group / </small>", "a list names the groups")
	})
}

// Groups are a tree: what is theirs follows them, and they stand where the first of it would stand.
func TestListOfGroups(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		group := func(names map[string]taskmanager.TaskFunc) taskmanager.TaskFunc {
			return taskmanager.Group(func(m *taskmanager.Manager) error {
				for name, body := range names {
					if _, err := m.StartTask(name, body); err != nil {
						return err
					}
				}
				return nil
			})
		}
		s.start("m", group(map[string]taskmanager.TaskFunc{"well": park, "bad": fail, "deep": group(map[string]taskmanager.TaskFunc{"x": park})}))
		s.start("a", park)
		s.start("z", group(map[string]taskmanager.TaskFunc{"a": park}))
		synctest.Wait()
		assert.Equal(t, []string{"m", "m / bad", "m / deep", "m / deep / x", "m / well", "a", "z", "z / a"}, s.paths(""))
		assert.Equal(t, []string{"a", "m", "m / bad", "m / deep", "m / deep / x", "m / well", "z", "z / a"}, s.paths("sort=name"))
		assert.Equal(t, []string{"m", "m / bad", "m / deep", "m / deep / x", "m / well", "a", "z", "z / a"}, s.paths("sort=failures&desc=1"))
		body := s.get("").Body.String()
		assert.Contains(t, body, `class="name depth-2"`)
		assert.Contains(t, s.get("task?stack=0&task=m").Body.String(), "Tasks of this group")
		assert.Contains(t, s.get("tasks.txt").Body.String(), "\n    x  ")
	})
}

// Small pages, one after the other, have what a large one has.
func TestListPagesAreParts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		fill := func(m *taskmanager.Manager, n int) {
			for i := range n {
				body := park
				if i%7 == 3 {
					body = fail
				}
				_, err := m.StartTask(fmt.Sprint("task ", i*7919%n), body, taskmanager.WithBackoff(time.Hour, time.Hour))
				require.NoError(t, err)
			}
		}
		for i := range 5 {
			s.start(fmt.Sprint("group ", i), taskmanager.Group(func(m *taskmanager.Manager) error {
				fill(m, 10*i)
				_, err := m.StartTask("inner", taskmanager.Group(func(m *taskmanager.Manager) error {
					fill(m, 15)
					return nil
				}))
				return err
			}))
		}
		fill(s.manager, 300)
		synctest.Wait()
		for _, query := range []string{"", "desc=1", "sort=name", "sort=name&desc=1", "sort=failures&desc=1", "sort=state", "sort=error", "q=task+1", "state=backoff&sort=error", "q=refused&sort=name"} {
			want := s.paths(query + "&per=1000")
			var got []string
			for page := 1; len(got) < len(want); page++ {
				part := s.paths(fmt.Sprintf("%s&per=10&page=%d", query, page))
				require.NotEmpty(t, part)
				got = append(got, part...)
			}
			assert.Equal(t, want, got, query)
		}
		assert.Len(t, s.paths("per=1000"), 300+5+5+100+5*15)
	})
}

// What sortFirst returns is the beginning of what is sorted.
func TestSortFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		items := make([]int, n)
		for i := range items {
			items[i] = rapid.IntRange(0, 1+n/3).Draw(t, "item")
		}
		first := rapid.IntRange(-1, n+10).Draw(t, "first")
		want := slices.Sorted(slices.Values(items))[:min(max(0, first), n)]
		got := sortFirst(items, first, func(a, b int) int { return a - b })
		if !slices.Equal(want, got) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

// sortFirst takes time in proportion to what there is, be it in order or all alike.
func TestSortFirstIsLinear(t *testing.T) {
	const n, first = 100_000, 100
	for name, at := range map[string]func(i int) int{
		"in order": func(i int) int { return i }, "in reverse": func(i int) int { return -i }, "alike": func(int) int { return 0 },
		"two": func(i int) int { return i % 2 }, "at random": func(int) int { return rand.Int() }, //nolint:gosec // for a test
		"organ pipe": func(i int) int { return min(i, n-i) },
	} {
		items := make([]int, n)
		for i := range items {
			items[i] = at(i)
		}
		compared := 0
		sortFirst(items, first, func(a, b int) int {
			compared++
			return a - b
		})
		assert.Less(t, compared, 15*n, name)
	}
}

// A measured address is one of a page, and how long it may take.
func TestListOfManyTasks(t *testing.T) {
	if testing.Short() || raceFactor > 1 {
		t.Skip("it measures how long a page takes")
	}
	for _, size := range []struct {
		tasks  int
		within time.Duration
	}{{10_000, 20 * time.Millisecond}, {100_000, 150 * time.Millisecond}} {
		s := newSite(t, WithActions(allowed))
		for i := range size.tasks {
			s.start(fmt.Sprintf("worker-%06d", i), func(ctx context.Context) error {
				taskmanager.SetStatus(ctx, "12 messages/s, lag %d", i)
				return park(ctx)
			})
		}
		totals := func() int { return s.manager.Totals().Running }
		s.waitFor(func() bool { return totals() == size.tasks })
		for _, address := range []string{"", "?sort=failures&desc=1", "?sort=name&desc=1", "?sort=status", "?q=lag+9&state=running", "?page=50&sort=name"} {
			best, bytes := time.Hour, 0
			patience := time.Now().Add(30 * time.Second) // with a machine that others use
			for n := 0; n < 15 || best > size.within && time.Now().Before(patience); n++ {
				w := httptest.NewRecorder()
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+address, nil)
				began := processTime()
				s.handler.ServeHTTP(w, r)
				if best = min(best, processTime()-began); best < size.within/2 {
					bytes = w.Body.Len()
					break
				}
				bytes = w.Body.Len()
			}
			t.Logf("%d tasks, /%s: %v, %d bytes", size.tasks, address, best, bytes)
			assert.LessOrEqual(t, best, size.within, "%d tasks, %s", size.tasks, address)
			assert.LessOrEqual(t, bytes, 64_000, "%d tasks, %s", size.tasks, address)
		}
		_ = s.manager.Shutdown(t.Context())
	}
}

// All of a list is in its address.
func TestListQuery(t *testing.T) {
	for _, text := range []string{
		"", "q=a", "q=%26%3D%23+%22", "state=failed&state=stuck", "sort=name", "desc=1&sort=runs", "desc=1", "page=3", "per=50",
		"desc=1&page=2&per=250&q=x&sort=uptime&state=backoff",
	} {
		v, err := url.ParseQuery(text)
		require.NoError(t, err)
		q, p := parseListQuery(v)
		require.Nil(t, p)
		assert.Equal(t, text, q.values().Encode())
		assert.Equal(t, strings.TrimSuffix("./?"+text, "?"), q.link("./"))
	}
}
