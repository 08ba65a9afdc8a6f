package taskmanager

import (
	"context"
	"io"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const profile = `goroutine profile: total 7
1 @ 0x1 0x2
# labels: {"task":"a", "taskmanager":"2"}
#	0x1	main.ofA+0x1	/a.go:1

3 @ 0x1 0x2
# labels: {"more":"b", "task":"a", "taskmanager":"2"}
#	0x1	main.childrenOfA+0x1	/a.go:2

1 @ 0x3
# labels: {"task":"a", "taskmanager":"3"}
#	0x1	main.ofAnotherManager+0x1	/a.go:3

1 @ 0x3
# labels: {"task":"a"}
#	0x1	main.ofTheFirstManager+0x1	/a.go:3

1 @ 0x3
# labels: {"task":"b", "taskmanager":"2"}
#	0x1	main.ofAnotherTask+0x1	/a.go:3

1 @ 0x3
#	0x1	main.ofNoTask+0x1	/a.go:3

1 @ 0x4
# labels: {"a\"task":"a", "taskmanager":"2", "zz":"\"task\":\"a\""}
#	0x1	main.oddLabels+0x1	/a.go:4

1 @ 0x4
# labels: {"task":"\"a\" \\ \x00", "taskmanager":"2"}
#	0x1	main.oddName+0x1	/a.go:4

1 @ 0x4
# labels: {"task":
#	0x1	main.cutOff+0x1	/a.go:4

1 @ 0x4
# labels: {"task":"a", "taskmanager":"2"}
#	0x1	main.last+0x1	/a.go:5`

// However the profile comes in pieces, the paragraphs of the wanted tasks come out, each whole and once.
func TestStackFilter(t *testing.T) {
	a, odd := &Task{name: "a"}, &Task{name: "\"a\" \\ \x00"}
	for size := 1; size <= len(profile); size++ {
		f := stackFilter{
			manager: "2", wanted: map[string]*Task{a.name: a, odd.name: odd}, found: make(map[*Task][]byte),
		}
		for rest := []byte(profile + "\n"); len(rest) > 0; {
			piece := rest[:min(size, len(rest))]
			n, err := f.Write(piece)
			require.NoError(t, err)
			require.Equal(t, len(piece), n)
			rest = rest[len(piece):]
		}
		f.flush()
		paragraphs := strings.Split(profile, "\n\n")
		_, first, _ := strings.Cut(paragraphs[0], "\n")
		require.Len(t, f.found, 2)
		want := first + "\n" + paragraphs[1] + "\n" + paragraphs[len(paragraphs)-1] + "\n"
		require.Equal(t, want, string(f.found[a]), "in pieces of %d", size)
		require.Equal(t, paragraphs[7]+"\n", string(f.found[odd]))
	}
}

// The first Manager of a process does without the label that tells its tasks from those of others.
func TestStackFilterOfTheFirstManager(t *testing.T) {
	a := &Task{name: "a"}
	f := stackFilter{manager: "1", wanted: map[string]*Task{"a": a}, found: make(map[*Task][]byte)}
	_, err := io.WriteString(&f, profile)
	require.NoError(t, err)
	f.flush()
	require.Len(t, f.found, 1)
	assert.Contains(t, string(f.found[a]), "ofTheFirstManager")
	assert.Equal(t, 1, strings.Count(string(f.found[a]), "# labels:"))

	value := func(m *Manager, label string) string {
		v, _ := pprof.Label(pprof.WithLabels(context.Background(), m.labels("a")), label)
		return v
	}
	assert.Equal(t, "a", value(&Manager{id: "1"}, taskLabel))
	assert.Empty(t, value(&Manager{id: "1"}, managerLabel))
	assert.Equal(t, "a", value(&Manager{id: "2"}, taskLabel))
	assert.Equal(t, "2", value(&Manager{id: "2"}, managerLabel))
}

func TestLabelIn(t *testing.T) {
	for labels, want := range map[string]string{
		`{"task":"a"}`:                          "a",
		`{"a":"b", "task":"c", "x":"y"}`:        "c",
		`{"task":"\"task\":\"b\""}`:             `"task":"b"`,
		`{"a\"task":"b", "task":"c"}`:           "c",
		`{"a\", \"task":"b", "zz":"\"task\":"}`: "",
		`{"subtask":"b"}`:                       "",
		`{}`:                                    "",
		`{"task"}`:                              "",
		`{"task":}`:                             "",
		`{"task":"cut off`:                      "",
		`{"task":"\q"}`:                         "",
		``:                                      "",
		`"`:                                     "",
	} {
		got, ok := labelIn(labels, "task")
		assert.Equal(t, want, got, labels)
		assert.Equal(t, want != "", ok, labels)
	}
}

// No task is stuck: no dump.
func TestStacksOfNobody(t *testing.T) {
	assert.Nil(t, (&Manager{}).stacks(nil))
}

// parked returns a Manager with one task, which runs until it is stopped, and d longer.
func parked(t *testing.T, d time.Duration) (*Manager, *Task) {
	t.Helper()
	m := quiet()
	task, err := m.StartTask("a", func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(d)
		return nil
	})
	require.NoError(t, err)
	synctest.Wait()
	return m, task
}

// What it has taken to ask others is part of the time that a task has.
func TestTheTimeoutOfAStopBeginsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, time.Minute)
		s := newStop(m, stopRequest, 3*time.Second)
		s.tasks = []*Task{task}
		began := time.Now()
		s.begin(began.Add(-time.Second))
		<-s.over
		assert.Equal(t, 2*time.Second, time.Since(began))
		require.Error(t, s.err)
		<-task.Done()
	})
}

// A heartbeat is overdue in a run that has ended just before it is asked to fail: the next one is not disturbed.
func TestOverdueNewsOfAnOldRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, 0)
		s := newStop(m, overdueRequest, time.Second)
		s.tasks = []*Task{task}
		s.overdue = &overdueRun{&watchedRun{run: &run{task: task}}, &OverdueError{Err: ErrWatchdog}}
		assert.Zero(t, s.begin(time.Now()))
		<-s.over
		require.NoError(t, s.err)
		assert.Equal(t, StateRunning, task.State())
		require.NoError(t, m.StopAll(t.Context()))
	})
}
