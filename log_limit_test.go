package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// Beyond the limit lines of one task and kind are merged, and say how many events they stand for; nothing is lost, and the lines of
// a task keep their order.
func TestLogLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithLogLimit(1, 2))
		start(t, m, "a", boom, append(everyTime(100*time.Millisecond, 25), taskmanager.WithMaxRestarts(24))...)
		time.Sleep(time.Minute)
		var got []string
		began := lines.taken()[0].Time
		for _, r := range lines.taken() {
			text := fmt.Sprintf("%v %s", r.Time.Sub(began).Round(time.Millisecond), r.Message)
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "run" || a.Key == "repeats" {
					text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
				}
				return true
			})
			got = append(got, text)
		}
		assert.Equal(t, []string{
			"0s task failed, will restart run=1",
			"100ms task failed, will restart run=2",
			"1s task failed, will restart run=10 repeats=7",
			"2s task failed, will restart run=20 repeats=9",
			"3s task failed, will restart run=24 repeats=3",
			"4s task failed for good, gave up run=25",
		}, got)
	})
}

// While the handler has a line that was held up, others wait, also if it is their turn: a task's lines are written one at a time.
func TestLogLimitWhileALineIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, most, lines := 0, 0, 0
		log := slog.New(askedHandler{handlerFunc(func(slog.Record) {
			inside++
			most = max(most, inside)
			if lines++; lines == 2 {
				time.Sleep(5 * time.Second)
			}
			inside--
		}), func(level slog.Level) bool { return level >= slog.LevelWarn }})
		m := observed(t, taskmanager.WithLogger(log), taskmanager.WithLogLimit(1, 1))
		start(t, m, "a", boom, everyTime(600*time.Millisecond, 10)...)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, most)
		assert.Equal(t, 4, lines, "the first; one held up; what has come while that was written, merged; the giving-up")
	})
}

// The default bounds the log of a storm: 5,000 tasks fail at once.
func TestLogLimitInAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)))
		gate := make(chan struct{})
		for i := range 5000 {
			start(t, m, strconv.Itoa(i), func(context.Context) error { <-gate; return errBoom }, once())
		}
		synctest.Wait()
		close(gate)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := lines.got()
		require.Less(t, len(got), 1020)
		last := got[len(got)-1]
		assert.True(t, strings.HasPrefix(last, "ERROR task failed for good, gave up | tasks="), last)
		assert.Contains(t, last, " error=boom")
		assert.NotContains(t, last, "uptime")
		assert.Contains(t, last, " more repeats=")
		assert.EqualValues(t, 5000, m.Stats().Failures)
		events := 0
		for _, r := range lines.taken() {
			events++
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "repeats" {
					events += int(a.Value.Int64())
				}
				return true
			})
		}
		assert.Equal(t, 5000, events)
	})
}

// Shutdown does not wait for the limit. It is not held up either by a handler, or an error's method, that does not return.
func TestLogLimitAtShutdown(t *testing.T) {
	for way, handler := range waysNotToReturn() {
		for _, where := range []string{"nowhere", "the handler", "Error"} {
			t.Run(where+" "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var logged atomic.Int64
					log := slog.New(handlerFunc(func(r slog.Record) {
						if r.Message == "task failed for good, gave up" && logged.Add(1) == 2 && where == "the handler" {
							handler()
						}
					}))
					m := observed(t, taskmanager.WithLogger(log), taskmanager.WithLogLimit(rate.Every(time.Hour), 1))
					for i := range 8 {
						err := fmt.Errorf("boom %d", i)
						if i == 7 && where == "Error" {
							err = awkwardTextError(handler)
						}
						task := start(t, m, strconv.Itoa(i), func(context.Context) error { return err }, once())
						<-task.Done()
					}
					synctest.Wait()
					began := time.Now()
					require.NoError(t, m.Shutdown(t.Context()))
					if way == "hangs" && where != "nowhere" {
						took(t, 5*time.Second, began)
					} else {
						took(t, 0, began)
						if where == "nowhere" {
							assert.EqualValues(t, 8, logged.Load())
						}
					}
					time.Sleep(24 * time.Hour) // what Shutdown had no time for is written at its pace
				})
			})
		}
	}
}

// A group's lines are under the limit of the Manager whose log they go to, unless the group has a log or a limit of its own.
func TestLogLimitInAGroup(t *testing.T) {
	for name, test := range map[string]struct {
		opts []taskmanager.Option
		want int
	}{
		"of the Manager around it": {nil, 1},
		"of its own":               {[]taskmanager.Option{taskmanager.WithLogLimit(rate.Inf, 1)}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelWarn)
				m := observed(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithLogLimit(rate.Every(time.Hour), 1))
				task := start(t, m, "g", taskmanager.Group(func(m *taskmanager.Manager) error {
					for i := range 4 {
						if _, err := m.StartTask(strconv.Itoa(i), boom, once()); err != nil {
							return err
						}
					}
					return nil
				}, test.opts...))
				time.Sleep(time.Minute)
				assert.Len(t, lines.got(), test.want)
				require.NoError(t, task.Stop(t.Context()))
				require.NoError(t, m.Shutdown(t.Context()))
				assert.Len(t, lines.got(), 4)
			})
		})
	}
}
