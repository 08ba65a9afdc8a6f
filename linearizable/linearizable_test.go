package linearizable

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A history is what some goroutines did to one name, and what they were told.
type history []porcupine.Operation

// add adds a call that took effect between its call and its return, by a clock that all share.
func (h *history) add(goroutine int, in input, out output, call, ret int64) {
	*h = append(*h, porcupine.Operation{ClientId: goroutine, Input: in, Output: out, Call: call, Return: ret})
	if in.call == "stop" && out.err == nil {
		h.add(goroutine, input{"gone", in.number}, output{}, call, ret)
	}
}

func (h history) String() string {
	var b strings.Builder
	for _, o := range h {
		fmt.Fprintf(&b, "[%d, %d] goroutine %d: %s\n", o.Call, o.Return, o.ClientId, describe(o.Input.(input), o.Output.(output)))
	}
	return b.String()
}

// From real threads: StartTask, StopTask, RestartTask, IsRunning and Lookup of one name each take effect at one moment between their
// call and their return, and a StopTask has waited until the task was gone.
func TestStartStopRestartIsRunningAndLookupAreLinearizable(t *testing.T) {
	const histories, goroutines, each = 4000, 4, 6
	results := make(map[string]int)
	for n := range histories {
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		var (
			clock atomic.Int64
			wg    sync.WaitGroup
			ready = make(chan struct{})
			all   [goroutines]history
		)
		for g := range goroutines {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), uint64(g)))
				<-ready
				for i := range each {
					in := input{[...]string{"start", "start", "stop", "stop", "restart", "running", "lookup"}[random.IntN(7)], uint(g*each + i)}
					call := clock.Add(1)
					out := perform(m, in.call, n%4)
					all[g].add(g, in, out, call, clock.Add(1))
				}
			})
		}
		close(ready)
		wg.Wait()
		var h history
		for _, part := range all {
			h = append(h, part...)
		}
		require.True(t, porcupine.CheckOperations(model(), h), "history %d:\n%v", n, h)
		require.NoError(t, m.StopAll(t.Context()))
		for _, o := range h {
			results[fmt.Sprint(o.Input.(input).call, o.Output.(output).err != nil)]++
		}
	}
	for _, result := range []string{"startfalse", "starttrue", "stopfalse", "stoptrue", "restartfalse", "restarttrue"} {
		assert.NotZero(t, results[result], result)
	}
}

// perform makes the call. What is started takes a while to stop.
func perform(m *taskmanager.Manager, call string, while int) (out output) {
	switch call {
	case "start":
		out.task, out.err = m.StartTask("a", func(ctx context.Context) error {
			<-ctx.Done()
			for range while {
				runtime.Gosched()
			}
			return nil
		})
	case "stop":
		out.err = m.StopTask(context.Background(), "a")
	case "restart":
		out.err = m.RestartTask(context.Background(), "a")
	case "running":
		out.running = m.IsRunning("a")
	case "lookup":
		out.task, _ = m.Lookup("a")
	}
	return out
}

// The model itself must tell good histories from bad ones.
func TestModelTellsGoodHistoriesFromBadOnes(t *testing.T) {
	var (
		a, b                      = new(taskmanager.Task), new(taskmanager.Task)
		start, stop, restart      = input{call: "start"}, input{call: "stop", number: 1}, input{call: "restart"}
		running, lookup           = input{call: "running"}, input{call: "lookup"}
		secondStop                = input{call: "stop", number: 2}
		taken, notFound           = output{err: taskmanager.ErrTaskRunning}, output{err: taskmanager.ErrTaskNotFound}
		notRunning, overtaken, ok = output{err: taskmanager.ErrTaskNotRunning}, output{err: taskmanager.ErrStopped}, output{}
		isRunning                 = output{running: true}
	)
	type call struct {
		in        input
		out       output
		call, ret int64
	}
	for name, c := range map[string]struct {
		calls []call
		want  bool
	}{
		"in order": {[]call{
			{stop, notFound, 1, 2},
			{restart, notFound, 3, 4},
			{lookup, ok, 5, 6},
			{start, output{task: a}, 7, 8},
			{lookup, output{task: a}, 9, 10},
			{running, isRunning, 11, 12},
			{restart, ok, 13, 14},
			{stop, ok, 15, 16},
			{running, ok, 17, 18},
			{secondStop, notRunning, 19, 20},
			{restart, ok, 21, 22},
			{running, isRunning, 23, 24},
			{start, taken, 25, 26},
		}, true},
		"two starts of a live task":     {[]call{{start, output{task: a}, 1, 4}, {start, output{task: b}, 2, 3}}, false},
		"started anew as the old one":   {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 4}, {start, output{task: a}, 5, 6}}, false},
		"refused before there was any":  {[]call{{start, taken, 1, 2}, {start, output{task: a}, 3, 4}}, false},
		"alive after its stop returned": {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 4}, {running, isRunning, 5, 6}}, false},
		"two stops of one task":         {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 6}, {secondStop, ok, 4, 5}}, true},
		"one stop after the other":      {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 4}, {secondStop, ok, 5, 6}}, false},
		"gone, and then still taken":    {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 10}, {running, ok, 4, 5}, {start, taken, 6, 7}}, false},
		"forgotten although remembered": {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 4}, {secondStop, notFound, 5, 6}}, false},
		"another one is found":          {[]call{{start, output{task: a}, 1, 2}, {lookup, output{task: b}, 3, 4}}, false},
		"not restarted":                 {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 4}, {restart, ok, 5, 6}, {running, ok, 7, 8}}, false},
		"restarted though overtaken":    {[]call{{start, output{task: a}, 1, 2}, {stop, ok, 3, 6}, {restart, overtaken, 4, 5}}, true},
		"overtaken by nobody":           {[]call{{start, output{task: a}, 1, 2}, {restart, overtaken, 3, 4}}, false},
		"restarted, and not found":      {[]call{{start, output{task: a}, 1, 2}, {restart, notFound, 3, 4}}, false},
	} {
		var h history
		for _, c := range c.calls {
			h.add(0, c.in, c.out, c.call, c.ret)
		}
		assert.Equal(t, c.want, porcupine.CheckOperations(model(), h), name)
	}
}
