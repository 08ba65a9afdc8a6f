package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each work, small, by each side that can do it, in this process.
func TestWorksYieldTheirMeasures(t *testing.T) {
	for _, w := range works(true) {
		for _, s := range sides {
			if s.can&w.needs != w.needs {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", w.name, s.name), func(t *testing.T) {
				v, err := order{Work: w.name, Side: s.name, Quick: true}.execute()
				require.NoError(t, err)
				for _, m := range w.measures {
					if m.key == "stats" && s.can&tells == 0 {
						continue
					}
					require.Contains(t, v, m.key)
					assert.GreaterOrEqual(t, v[m.key], 0.0, m.key)
				}
			})
		}
	}
}

func TestWorkNamesAreUnique(t *testing.T) {
	for _, quick := range []bool{true, false} {
		seen := make(map[string]bool)
		for _, w := range works(quick) {
			assert.False(t, seen[w.name], w.name)
			seen[w.name] = true
		}
	}
}

// A cheat does less than it should, in one respect.
type cheat struct {
	*floor
	loses bool // the bodies
	finds func(name string) bool
	tells int
}

func (c *cheat) start(name string, body body) error {
	if c.loses {
		body = func(context.Context) error { return nil }
	}
	return c.floor.start(name, body)
}

func (c *cheat) isRunning(name string) bool {
	if c.finds != nil {
		return c.finds(name)
	}
	return c.floor.isRunning(name)
}

func (c *cheat) stats() int { return c.tells }

func TestWorksNoticeACheat(t *testing.T) {
	const n = 10
	for name, test := range map[string]struct {
		cheat cheat
		work  work
		want  string
	}{
		"runs nothing":      {cheat{loses: true}, churn(n), "0 tasks ran instead of 10"},
		"finds nobody":      {cheat{finds: func(string) bool { return false }}, asking(n, time.Millisecond), "a task is not running"},
		"finds everybody":   {cheat{finds: func(string) bool { return true }}, asking(n, time.Millisecond), "that was never started"},
		"tells of too few":  {cheat{tells: n - 1}, asking(n, time.Millisecond), "statistics of 9 tasks instead of 10"},
		"tells of too many": {cheat{tells: n + 1}, asking(n, time.Millisecond), "statistics of 11 tasks instead of 10"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &floor{tasks: make(map[string]context.CancelFunc)}
			test.cheat.floor = f
			_, err := test.work.run(func() group { return &test.cheat })
			assert.ErrorContains(t, err, test.want)
			require.NoError(t, f.stopAll())
		})
	}
}

func TestCrowdNoticesWhoIsMissing(t *testing.T) {
	c := newCrowd(2)
	require.Error(t, c.check())
	c.entered.Store(2)
	require.ErrorContains(t, c.check(), "2 of 2 bodies were entered, and 0 left")
	c.left.Store(2)
	require.NoError(t, c.check())
	c.entered.Store(3)
	require.Error(t, c.check(), "one ran twice")
}
