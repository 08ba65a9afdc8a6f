package taskmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// oddTexts are names and error texts that something might stumble over.
var oddTexts = []string{
	"", "a", "two words", `"quoted"`, `back\slash`, "{}", `{"task":"b"}`, `a", "taskmanager":"7`, "=", "a=b c=d", "# labels: ", "%!s(x)", "%d", "`",
	"line\nbreak", "\r\n", "\x00", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\u202e", "\ufeff", "\xff", "a\xc3", "\xed\xa0\x80", "\ufffd",
	"é", "\U0001f4a5", "<script>&amp;", "task=a\nlevel=ERROR", strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("\U0001f4a5", 64),
}

// A name and the text of an error: whatever they contain, they are shown whole and in their place by the log, the events, the
// statistics and the errors, or the name is refused by an error that is fit to print.
func FuzzNamesAndErrorTexts(f *testing.F) {
	for i, name := range oddTexts {
		f.Add(name, oddTexts[len(oddTexts)-1-i])
		f.Add("a", name)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		synctest.Test(t, func(t *testing.T) {
			var jsonLog, textLog bytes.Buffer
			handler := bothHandlers{slog.NewJSONHandler(&jsonLog, nil), slog.NewTextHandler(&textLog, nil)}
			m := mustNew(t, taskmanager.WithLogger(slog.New(handler)))
			events := m.Subscribe(context.Background())
			why := errors.New(text)
			task, err := m.StartTask(name, func(context.Context) error { return why }, once())
			if !isName(name) {
				var refused *taskmanager.OptionError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, "name", refused.Option)
				assert.Equal(t, name, refused.Value)
				assertPrintable(t, err.Error())
				assert.LessOrEqual(t, len(err.Error()), 500, "a name may be long")
				assert.Empty(t, m.Stats().Tasks)
				return
			}
			require.NoError(t, err)
			err = task.Wait(t.Context())
			require.ErrorIs(t, err, why)
			assert.Equal(t, fmt.Sprintf("taskmanager: gave up task %q: %s", name, text), err.Error())

			found, ok := m.Lookup(name)
			assert.True(t, ok && found == task && !m.IsRunning(name) && task.Name() == name)
			for _, e := range received(events) {
				assert.Equal(t, name, e.Task)
			}

			synctest.Wait() // the log is the last to hear
			var line struct{ Task, Error, Msg string }
			require.NoError(t, json.Unmarshal(jsonLog.Bytes(), &line), "one line that is JSON")
			assert.Equal(t, name, line.Task)
			assert.Equal(t, valid(text), line.Error)
			assert.Equal(t, 1, bytes.Count(textLog.Bytes(), []byte("\n")), "one line")
			assert.Contains(t, textLog.String(), " task="+inTextLog(name)+" run=1 reason=never error="+inTextLog(text)+" uptime=")

			var stats struct {
				Tasks map[string]struct {
					Name      string `json:"name"`
					LastError string `json:"last_error"`
				} `json:"tasks"`
			}
			written, err := json.Marshal(m.Stats())
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(written, &stats))
			require.Len(t, stats.Tasks, 1)
			assert.Equal(t, name, stats.Tasks[name].Name)
			assert.Equal(t, valid(text), stats.Tasks[name].LastError)
		})
	})
}

// bothHandlers is a handler that logs twice.
type bothHandlers struct {
	slog.Handler
	second slog.Handler
}

func (h bothHandlers) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(h.Handler.Handle(ctx, r.Clone()), h.second.Handle(ctx, r))
}

// isName is the rule for names.
func isName(name string) bool {
	return name != "" && len(name) <= 255 && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}

// valid is what JSON makes of text.
func valid(text string) string { return string([]rune(text)) }

// inTextLog is what slog's text handler makes of text.
func inTextLog(text string) string {
	var b strings.Builder
	l := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "x" {
			return a
		}
		return slog.Attr{}
	}}))
	l.Info("", "x", text)
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), "x="), "\n")
}

func assertPrintable(t *testing.T, text string) {
	t.Helper()
	assert.True(t, utf8.ValidString(text), "%q", text)
	assert.False(t, strings.ContainsFunc(text, unicode.IsControl), "%q", text)
}

// The name of a stuck task finds its own goroutines in the process's real profile, and no others.
func FuzzStuckTaskShowsItsStack(f *testing.F) {
	for _, name := range oddTexts {
		f.Add(name, "b")
		f.Add(name, `"task":"`+name+`"`)
	}
	f.Fuzz(func(t *testing.T, name, other string) {
		if !isName(name) || !isName(other) || name == other {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			release := make(chan struct{})
			start(t, m, name, ignoring(release))
			start(t, m, other, untilStopped)
			synctest.Wait()
			stuck := asStuck(t, m.StopTask(t.Context(), name), name, 5*time.Second)
			assert.Equal(t, fmt.Sprintf("taskmanager: task %q did not stop within 5s", name), stuck.Error())
			assert.Equal(t, 1, strings.Count(string(stuck.Stack), "\n# labels: "), "%s", stuck.Stack)
			assert.Contains(t, string(stuck.Stack), `"task":`+strconv.Quote(name))
			assert.Contains(t, string(stuck.Stack), "taskmanager_test.")
			close(release)
			require.NoError(t, m.StopAll(t.Context()))
		})
	})
}

// Each option takes exactly the values that its doc allows, and refuses any other by an error that names the option.
func FuzzOptions(f *testing.F) {
	for _, n := range []int{math.MinInt, -2, -1, 0, 1, 2, 3, math.MaxInt} {
		for _, x := range []float64{math.Inf(-1), -1, 0, 1e-300, 0.5, 1, 1.5, 1e300, math.MaxFloat64, math.Inf(1), math.NaN()} {
			f.Add(n, int64(n), int64(n), x, "a")
			f.Add(n, int64(1), int64(n), x, "a\nb")
		}
	}
	f.Fuzz(func(t *testing.T, n int, d1, d2 int64, x float64, text string) {
		first, second := time.Duration(d1), time.Duration(d2)
		backoffOK := d1 == 0 && d2 == 0 || d1 > 0 && d1 <= d2
		factorOK, jitterOK := x >= 1 && !math.IsInf(x, 0), x >= 0 && x <= 1
		limitOK := rate.Limit(x) == rate.Inf || x > 0 && !math.IsInf(x, 0) && n > 0
		for _, o := range []struct {
			name   string
			option taskmanager.Option
			ok     bool
		}{
			{"WithRestart", taskmanager.WithRestart(taskmanager.RestartPolicy(n)), n >= 0 && n <= 2},
			{"WithMaxRestarts", taskmanager.WithMaxRestarts(n), n >= 0 || n == taskmanager.Unlimited},
			{"WithRestartWindow", taskmanager.WithRestartWindow(first), d1 > 0},
			{"WithBackoff", taskmanager.WithBackoff(first, second), backoffOK},
			{"WithBackoffFactor", taskmanager.WithBackoffFactor(x), factorOK},
			{"WithBackoffJitter", taskmanager.WithBackoffJitter(x), jitterOK},
			{"WithHealthyAfter", taskmanager.WithHealthyAfter(first), d1 > 0},
			{"WithStopTimeout", taskmanager.WithStopTimeout(first), d1 > 0},
			{"WithReadiness", taskmanager.WithReadiness(first), d1 > 0},
			{"WithWatchdog", taskmanager.WithWatchdog(first), d1 > 0},
			{"WithRestartLimit", taskmanager.WithRestartLimit(rate.Limit(x), n), limitOK},
			{"WithReportLimit", taskmanager.WithReportLimit(rate.Limit(x), n), limitOK},
			{"WithHistory", taskmanager.WithHistory(n), n >= 0},
			{"WithName", taskmanager.WithName(text), text == "" || isName(text)},
			{"WithDependsOn", taskmanager.WithDependsOn(text), false}, // New refuses it
		} {
			_, err := taskmanager.New(o.option)
			if o.ok {
				require.NoError(t, err, o.name)
				continue
			}
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused, o.name)
			assert.Equal(t, o.name, refused.Option)
			assert.NotEmpty(t, refused.Reason)
			assert.True(t, strings.HasPrefix(err.Error(), "taskmanager: "+o.name+"("), err.Error())
			assertPrintable(t, err.Error())
		}
		if !backoffOK || !factorOK && !jitterOK {
			return
		}
		// What has been taken works.
		opts := []taskmanager.TaskOption{taskmanager.WithBackoff(first, second), taskmanager.WithMaxRestarts(1)}
		if factorOK {
			opts = append(opts, taskmanager.WithBackoffFactor(x))
		}
		if jitterOK {
			opts = append(opts, taskmanager.WithBackoffJitter(x))
		}
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			events := m.Subscribe(context.Background())
			start(t, m, "a", boom, opts...)
			synctest.Wait()
			failed := ofKind(taskmanager.EventFailed, received(events))
			require.Len(t, failed, 1)
			assert.LessOrEqual(t, failed[0].Delay, second)
			assert.Equal(t, second > 0, failed[0].Delay > 0)
			_ = m.StopAll(t.Context()) // without a delay it has ended
		})
	})
}
