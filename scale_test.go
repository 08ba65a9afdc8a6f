package taskmanager_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

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
		named := strings.Count(text, `"worker `)
		assert.Positive(t, named)
		assert.True(t, strings.HasSuffix(text, fmt.Sprintf(" and %d more", n-named)), text)
	})
}
