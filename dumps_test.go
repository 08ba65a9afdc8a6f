package taskmanager_test

import (
	"context"
	"fmt"
	"io"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A task of the same name in another Manager is another task.
func TestDumpOfTheSameNameInTwoManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := []*taskmanager.Manager{mustNew(t), mustNew(t)}
		bodies := []*deafBody{newDeafBody(), newDeafBody()}
		start(t, ms[0], "same", bodies[0].hangInBody)
		start(t, ms[1], "same", bodies[1].hangInSibling)
		synctest.Wait()

		first := asStuck(t, ms[0].StopTask(t.Context(), "same"), "same", 5*time.Second)
		assert.Contains(t, string(first.Stack), "hangInBody")
		assert.NotContains(t, string(first.Stack), "hangInSibling")
		second := asStuck(t, ms[1].StopTask(t.Context(), "same"), "same", 5*time.Second)
		assert.Contains(t, string(second.Stack), "hangInSibling")
		assert.NotContains(t, string(second.Stack), "hangInBody")
		for _, b := range bodies {
			b.release()
		}
	})
}

// Names that need quoting in the dump, and names that look like a label of it.
func TestDumpOfOddNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		names := []string{`"task":"plain"`, "plain", `back\slash`, "\u00a0emoji \U0001F600", `{"task":"x", "taskmanager":"1"}`, "plain2"}
		body := newDeafBody()
		for _, name := range names {
			start(t, m, name, body.hangInBody)
		}
		synctest.Wait()
		err := m.StopAll(t.Context())
		joined, ok := err.(interface{ Unwrap() []error })
		require.True(t, ok)
		stacks := make(map[string]string)
		for _, err := range joined.Unwrap() {
			var stuck *taskmanager.StopTimeoutError
			require.ErrorAs(t, err, &stuck)
			stacks[stuck.Task] = string(stuck.Stack)
		}
		require.Len(t, stacks, len(names))
		for _, name := range names {
			assert.Equal(t, 1, strings.Count(stacks[name], "# labels:"), "of task %s:\n%s", name, stacks[name])
			assert.Contains(t, stacks[name], fmt.Sprintf(`"task":%q`, name))
		}
		body.release()
	})
}

// A dump walks every goroutine of the process, so there is one for all that are stuck, and none for who isn't.
func TestDumpIsMadeOnceForStopAll(t *testing.T) {
	const tasks = 300
	m := mustNew(t, taskmanager.WithStopTimeout(time.Nanosecond))
	body := newDeafBody()
	var entered sync.WaitGroup
	entered.Add(tasks)
	for i := range tasks {
		start(t, m, fmt.Sprint(i), func(ctx context.Context) error {
			entered.Done()
			return body.run(ctx)
		})
	}
	entered.Wait()
	dump := allocated(func() { assert.NoError(t, pprof.Lookup("goroutine").WriteTo(io.Discard, 1)) })
	var err error
	stop := allocated(func() { err = m.StopAll(t.Context()) })
	assert.Equal(t, tasks, m.Stats().Stuck)
	assert.Less(t, stop, 5*dump, "one dump allocates %d bytes", dump)
	assert.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), tasks)
	body.release()
	for task := range m.Tasks() {
		<-task.Done()
	}
}

// Where a task is can be asked at any time, also by its own body.
func TestDumpOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		bodies := []*deafBody{newDeafBody(), newDeafBody()}
		task := start(t, m, "a", func(ctx context.Context) error {
			go func() { _ = bodies[0].hangInChild() }()
			return bodies[0].hangInBody(ctx)
		})
		other := start(t, m, "b", bodies[1].hangInSibling)
		waiting := start(t, m, "waiting", untilStopped, taskmanager.WithDependsOn("nobody"))
		synctest.Wait()
		stack := string(task.Stack())
		assert.Contains(t, stack, "hangInBody")
		assert.Contains(t, stack, "hangInChild")
		assert.NotContains(t, stack, "hangInSibling")
		assert.Contains(t, string(other.Stack()), "hangInSibling")
		assert.Nil(t, waiting.Stack())
		for _, b := range bodies {
			b.release()
		}
		synctest.Wait()
		assert.Nil(t, task.Stack(), "it has ended")

		var own []byte
		start(t, m, "own", func(ctx context.Context) error {
			self, _ := taskmanager.FromContext(ctx)
			own = self.Stack()
			return nil
		})
		synctest.Wait()
		assert.Contains(t, string(own), "TestDumpOfATask")
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Of several tasks each has its own stack, also where they have one name in several Managers, or one is within a group; and who does not
// run has none.
func TestDumpOfSeveralTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := []*taskmanager.Manager{mustNew(t), mustNew(t)}
		body := newDeafBody()
		var within *taskmanager.Task
		same := start(t, ms[0], "same", body.hangInBody)
		other := start(t, ms[1], "same", body.hangInSibling)
		group := start(t, ms[1], "group", taskmanager.Group(func(g *taskmanager.Manager) error {
			within = start(t, g, "same", func(context.Context) error { return body.hangInChild() })
			return nil
		}))
		notAsked := start(t, ms[0], "not asked", body.hangInBody)
		waiting := start(t, ms[0], "waiting", untilStopped, taskmanager.WithDependsOn("nobody"))
		ended := start(t, ms[0], "ended", func(context.Context) error { return nil })
		synctest.Wait()
		require.NotNil(t, notAsked.Stack())

		stacks := taskmanager.Stacks(nil, same, waiting, other, ended, group, within, same)
		require.Len(t, stacks, 4)
		for task, in := range map[*taskmanager.Task]string{same: "hangInBody", other: "hangInSibling", within: "hangInChild", group: "Group"} {
			assert.Equal(t, 1, strings.Count(string(stacks[task]), "# labels:"), "%s", stacks[task])
			assert.Contains(t, string(stacks[task]), in)
			assert.Equal(t, string(task.Stack()), string(stacks[task]))
		}
		for _, nobody := range [][]*taskmanager.Task{nil, {nil}, {waiting, ended}} {
			assert.Equal(t, map[*taskmanager.Task][]byte{}, taskmanager.Stacks(nobody...))
		}
		body.release()
		for _, m := range ms {
			require.NoError(t, m.Shutdown(t.Context()))
		}
	})
}

// There is one dump for all of them, however many Managers they are of.
func TestDumpIsMadeOnceForSeveralManagers(t *testing.T) {
	const managers, each = 20, 10
	body := newDeafBody()
	var (
		entered sync.WaitGroup
		tasks   []*taskmanager.Task
	)
	entered.Add(managers * each)
	for range managers {
		m := mustNew(t)
		for i := range each {
			tasks = append(tasks, start(t, m, fmt.Sprint(i), func(ctx context.Context) error {
				entered.Done()
				return body.run(ctx)
			}))
		}
	}
	entered.Wait()
	dump := allocated(func() { assert.NoError(t, pprof.Lookup("goroutine").WriteTo(io.Discard, 1)) })
	var stacks map[*taskmanager.Task][]byte
	got := allocated(func() { stacks = taskmanager.Stacks(tasks...) })
	assert.Len(t, stacks, managers*each)
	assert.Less(t, got, 5*dump, "one dump allocates %d bytes", dump)
	body.release()
	for _, task := range tasks {
		<-task.Done()
	}
}
