package taskmanager_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The start of a task at the end of a chain of dependencies does not search the chain, of which it would have to note what it
// has seen.
func TestScaleStartOfAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		link := func(i int) {
			var opts []taskmanager.TaskOption
			if i > 0 {
				opts = append(opts, taskmanager.WithDependsOn(fmt.Sprint("t", i-1)))
			}
			start(t, m, fmt.Sprint("t", i), untilStopped, opts...)
		}
		for i := range 2000 {
			link(i)
		}
		synctest.Wait()
		bytes := allocated(func() {
			for i := 2000; i < 2010; i++ {
				link(i)
			}
		})
		assert.Less(t, bytes/10, uint64(20_000), "bytes for each start at the end of a chain of 2000")
	})
}

// Whom a task was stopped in spite of is named in a line that can be read, and that is short.
func TestScaleWarningOfDependents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option())
		db := start(t, m, "db", untilStopped)
		const n = 5000
		for i := range n {
			start(t, m, fmt.Sprint("worker ", i), untilStopped, taskmanager.WithDependsOn("db"))
		}
		synctest.Wait()
		require.NoError(t, db.Stop(t.Context()))
		synctest.Wait()
		lines := log.lines(t, "task was stopped, though others depend on it")
		require.Len(t, lines, 1)
		text := fmt.Sprint(lines[0]["dependents"])
		assert.Less(t, len(text), 1000)
		named := strings.Count(text, "worker ")
		assert.Positive(t, named)
		assert.True(t, strings.HasSuffix(text, fmt.Sprintf(" and %d more", n-named)), text)
	})
}
