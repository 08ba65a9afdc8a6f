package lifecycles_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // for CRON_TZ, on machines that have no time zones

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

var _ taskmanager.Schedule = cron.Schedule(nil)

var errEnough = errors.New("enough")

// passes returns when the first n passes begin, each of which takes as long as given, from the beginning of a bubble: midnight
// UTC of the first of January 2000, a Saturday.
func passes(t *testing.T, s taskmanager.Schedule, n int, takes time.Duration) (at []string) {
	t.Helper()
	err := taskmanager.OnSchedule(s, func(context.Context) error {
		at = append(at, time.Now().UTC().Format("2006-01-02 15:04:05.999999999"))
		if len(at) == n {
			return errEnough
		}
		time.Sleep(takes)
		return nil
	})(t.Context())
	require.Equal(t, errEnough, err)
	return at
}

func TestCronSchedules(t *testing.T) {
	for spec, test := range map[string]struct {
		takes time.Duration
		want  []string
	}{
		"CRON_TZ=UTC */5 * * * *": {0, []string{"2000-01-01 00:05:00", "2000-01-01 00:10:00", "2000-01-01 00:15:00"}},
		"CRON_TZ=UTC */6 * * * *": { // a pass longer than the interval: the times that come meanwhile are skipped
			7 * time.Minute, []string{"2000-01-01 00:06:00", "2000-01-01 00:18:00", "2000-01-01 00:30:00"},
		},
		"CRON_TZ=UTC 30 3 * * 1-5": {time.Hour, []string{"2000-01-03 03:30:00", "2000-01-04 03:30:00", "2000-01-05 03:30:00"}},
		"CRON_TZ=UTC @yearly":      {time.Hour, []string{"2001-01-01 00:00:00", "2002-01-01 00:00:00"}},
		// By the clock on the wall: that of Berlin was set forward on the last Sunday of March.
		"CRON_TZ=Europe/Berlin 0 8 25-27 3 *": {time.Hour, []string{"2000-03-25 07:00:00", "2000-03-26 06:00:00", "2000-03-27 06:00:00"}},
		// What is left out that night has no pass, and what came twice in the one of October had two.
		"CRON_TZ=Europe/Berlin 30 2 25-27 3 *":  {time.Minute, []string{"2000-03-25 01:30:00", "2000-03-27 00:30:00"}},
		"CRON_TZ=Europe/Berlin 30 2 28-30 10 *": {time.Minute, []string{"2000-10-28 00:30:00", "2000-10-29 00:30:00", "2000-10-29 01:30:00", "2000-10-30 01:30:00"}},
		// The distance is from pass to pass, whatever they take.
		"@every 90s": {time.Minute, []string{"2000-01-01 00:01:30", "2000-01-01 00:03:00", "2000-01-01 00:04:30"}},
	} {
		t.Run(spec, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := cron.ParseStandard(spec)
				require.NoError(t, err)
				assert.Equal(t, test.want, passes(t, s, len(test.want), test.takes))
			})
		})
	}
}

// A day that never comes is, to cron, the zero time: the task completes.
func TestCronScheduleWithoutATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := cron.ParseStandard("0 0 30 2 *")
		require.NoError(t, err)
		m := newManager()
		task, err := m.StartTask("leap", taskmanager.OnSchedule(s, untilStopped))
		require.NoError(t, err)
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateCompleted, task.State())
	})
}

// As a task: the statistics tell the next pass, and a stop doesn't wait for it.
func TestCronScheduleInATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := cron.ParseStandard("CRON_TZ=UTC @daily")
		require.NoError(t, err)
		m := newManager()
		ran := 0
		task, err := m.StartTask("report", taskmanager.OnSchedule(s, func(context.Context) error {
			ran++
			return nil
		}))
		require.NoError(t, err)
		time.Sleep(36 * time.Hour)
		synctest.Wait()
		assert.Equal(t, 1, ran)
		assert.Equal(t, time.Date(2000, 1, 3, 0, 0, 0, 0, time.UTC), task.Stats().Passes.Next.UTC())
		began := time.Now()
		require.NoError(t, task.Stop(t.Context()))
		assert.Zero(t, time.Since(began))
	})
}
