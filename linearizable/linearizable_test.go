package linearizable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	if out.performed != "" {
		in.call = out.performed
	}
	*h = append(*h, porcupine.Operation{ClientId: goroutine, Input: in, Output: out, Call: call, Return: ret})
	second := seconds[in.call]
	switch {
	case second == "" || out.err == nil:
	case errors.Is(out.err, taskmanager.ErrStopped) && in.call != "stop":
		second = "stopped"
	case errors.Is(out.err, taskmanager.ErrPaused):
		second = "paused"
	default:
		second = ""
	}
	if second != "" {
		h.add(goroutine, input{call: second, number: in.number}, output{}, call, ret)
	}
}

// seconds are the second moments of the calls that have two, where they succeed.
var seconds = map[string]string{
	"stop": "gone", "unwanted": "gone", "restart": "again", "pause": "rests", "replace": "replaced", "reconcile": "replaced", "absent": "restarted",
}

func (h history) String() string {
	var b strings.Builder
	for _, o := range h {
		fmt.Fprintf(&b, "[%d, %d] goroutine %d: %s\n", o.Call, o.Return, o.ClientId, describe(o.Input.(input), o.Output.(output)))
	}
	return b.String()
}

// addOverlaps counts the pairs of calls that were under way at the same time: "start, stop". Two starts count if one of them has
// succeeded, for only then was the name free to be taken twice.
func (h history) addOverlaps(counts map[string]int) {
	for i, a := range h {
		for _, b := range h[:i] {
			pair := []string{a.Input.(input).call, b.Input.(input).call}
			slices.Sort(pair)
			both := strings.Join(pair, ", ")
			refused := a.Output.(output).err != nil && b.Output.(output).err != nil
			if a.ClientId != b.ClientId && a.Call < b.Return && b.Call < a.Return && (both != "start, start" || !refused) {
				counts[both]++
			}
		}
	}
}

// contended are the pairs of calls that must have met.
var contended = func() (pairs []string) {
	calls := []string{"pause", "reconcile", "replace", "restart", "resume", "start", "stop"}
	for i, call := range calls {
		for _, other := range calls[i:] {
			pairs = append(pairs, call+", "+other)
		}
	}
	return pairs
}()

// A body runs until it is told to return, which takes it a while.
type body struct {
	while     int          // how often it lets others run
	entered   atomic.Int64 // runs
	executing atomic.Int64
	twice     atomic.Bool // two of them executed at the same time
}

func (b *body) run(ctx context.Context) error {
	b.entered.Add(1)
	if b.executing.Add(1) > 1 {
		b.twice.Store(true)
	}
	defer b.executing.Add(-1)
	<-ctx.Done()
	for range b.while {
		runtime.Gosched()
	}
	return nil
}

// perform makes the call.
func (b *body) perform(m *taskmanager.Manager, name string, in input) (out output) {
	switch in.call {
	case "start":
		out.task, out.err = m.StartTask(name, b.run)
	case "stop":
		out.err = m.StopTask(context.Background(), name)
	case "restart":
		out.err = m.RestartTask(context.Background(), name)
	case "pause":
		out.err = m.PauseTask(context.Background(), name)
	case "resume":
		out.err = m.ResumeTask(name)
	case "replace":
		out.task, out.err = m.ReplaceTask(context.Background(), name, b.run, taskmanager.WithMaxRestarts(byHand+in.config))
	case "reconcile":
		return b.reconcile(m, name, in.config)
	case "running":
		out.running = m.IsRunning(name)
	case "lookup":
		// A task that was found before and after is found in between.
		for task, again := m.Lookup(name); again; {
			stats := task.Stats()
			out = output{task: task, state: stats.State, runs: stats.Runs, config: stats.MaxRestarts - byHand}
			task, _ = m.Lookup(name)
			again = task != out.task
		}
	}
	return out
}

// byHand is the limit of restarts of a task that was started by hand. By those of others it is seen what has replaced it.
const byHand = 5

// reconcile makes the call that wants a task of that configuration, or none if it is 0.
func (b *body) reconcile(m *taskmanager.Manager, name string, config int) (out output) {
	c, err := m.Reconcile(context.Background(), name, func(yield func(taskmanager.Spec) bool) {
		if config > 0 {
			yield(taskmanager.Spec{
				Name: name, Body: b.run, Version: fmt.Sprint(config),
				Options: []taskmanager.TaskOption{taskmanager.WithMaxRestarts(byHand + config)},
			})
		}
	})
	out.err = err
	switch {
	case c.Unchanged > 0:
		out.performed = "equal"
	case len(c.Stopped) > 0:
		out.performed = "unwanted"
	case config == 0:
		out.performed = "absent"
	}
	return out
}

// check asserts that the history is linearizable, and that the body has executed once at a time.
func (b *body) check(t *testing.T, h history) {
	t.Helper()
	require.False(t, b.twice.Load(), "two bodies of one name:\n%v", h)
	require.True(t, porcupine.CheckOperations(model(), h), "%v", h)
}

// From real threads: StartTask, StopTask, RestartTask, PauseTask, ResumeTask, ReplaceTask, Reconcile, IsRunning, and Lookup with Stats
// of one name each take effect at one moment between their call and their return; a StopTask has waited until the task was gone, a
// RestartTask until one more run began, and so have PauseTask and ReplaceTask until it was paused, and had the other body.
func TestOneNameIsLinearizable(t *testing.T) {
	const histories, most, goroutines, each, least = 4000, 40_000, 4, 6, 100
	results, overlaps := make(map[string]int), make(map[string]int)
	met := func() bool {
		return !slices.ContainsFunc(contended, func(pair string) bool { return overlaps[pair] < least })
	}
	for n := 0; n < histories || n < most && !met(); n++ {
		opts := []taskmanager.Option{taskmanager.WithLogger(slog.New(slog.DiscardHandler))}
		if n%2 == 0 {
			opts = yielding()
		}
		m, err := taskmanager.New(opts...)
		require.NoError(t, err)
		var (
			b     = body{while: n / 2 % 4}
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
					in := input{call: calls[random.IntN(len(calls))], number: uint(g*each + i)}
					in.choose(random)
					call := clock.Add(1)
					out := b.perform(m, "a", in)
					all[g].add(g, in, out, call, clock.Add(1))
					if random.IntN(2) == 0 {
						runtime.Gosched() // on one core nobody else would get there before this goroutine has made its last call
					}
				}
			})
		}
		close(ready)
		wg.Wait()
		h := slices.Concat(all[:]...)
		b.check(t, h)
		require.NoError(t, m.StopAll(t.Context()))
		require.EqualValues(t, b.entered.Load(), m.Stats().Runs, "%v", h)
		for _, o := range h {
			results[fmt.Sprint(o.Input.(input).call, o.Output.(output).err != nil)]++
		}
		h.addOverlaps(overlaps)
	}
	for _, result := range []string{
		"startfalse", "starttrue", "stopfalse", "stoptrue", "restartfalse", "restarttrue", "againfalse", "stoppedfalse", "pausedfalse",
		"pausefalse", "pausetrue", "restsfalse", "resumefalse", "resumetrue", "replacefalse", "replacetrue", "replacedfalse",
		"reconcilefalse", "reconciletrue", "equalfalse", "unwantedfalse", "absentfalse",
	} {
		assert.NotZero(t, results[result], result)
	}
	assert.True(t, met(), "%v", overlaps)
}

var calls = []string{
	"start", "start", "stop", "stop", "restart", "pause", "resume", "resume", "replace", "reconcile", "reconcile", "running", "lookup", "lookup",
}

// choose sets what a ReplaceTask or a Reconcile is to bring. What one of the latter has brought, another one may find.
func (in *input) choose(random *rand.Rand) {
	switch in.call {
	case "replace":
		in.config = 10 + int(in.number)
	case "reconcile":
		in.config = random.IntN(3)
	}
}

// yielding are the options of a Manager whose user code lets others run wherever it is called. On one core, it is there that calls
// meet others.
func yielding() []taskmanager.Option {
	return []taskmanager.Option{
		taskmanager.WithContext(yieldingContext{context.Background()}),
		taskmanager.WithLogger(slog.New(yieldingHandler{slog.DiscardHandler})),
		// A limit that can't be reached, of which StartTask warns before it has a task.
		taskmanager.WithBackoff(time.Minute, time.Minute), taskmanager.WithHealthyAfter(time.Hour),
	}
}

type yieldingContext struct{ context.Context }

func (c yieldingContext) Err() error {
	runtime.Gosched()
	return c.Context.Err()
}

func (c yieldingContext) Value(key any) any {
	runtime.Gosched()
	return c.Context.Value(key)
}

type yieldingHandler struct{ slog.Handler }

func (yieldingHandler) Enabled(context.Context, slog.Level) bool {
	runtime.Gosched()
	return true
}

func (yieldingHandler) Handle(context.Context, slog.Record) error {
	runtime.Gosched()
	return nil
}

// The calls of this test meet where no user code is called, on one core as well: at the Manager's lock. The test itself takes it again
// and again until all of them have begun, and is preempted with the lock held, for it spends nearly all of its time so. By then each
// call has done what it does before it has the lock.
func TestOneNameIsLinearizableUnderContention(t *testing.T) {
	const most, goroutines, rounds, least, others = 2000, 4, 4, 50, 10_000
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)), taskmanager.WithHistory(others+most))
	require.NoError(t, err)
	var entered atomic.Int64
	for i := range others { // to list them takes a while
		_, err := m.StartTask(fmt.Sprint("other ", i), func(context.Context) error {
			entered.Add(1)
			return nil
		})
		require.NoError(t, err)
	}
	overlaps := make(map[string]int)
	met := func() bool {
		return !slices.ContainsFunc(contended, func(pair string) bool { return overlaps[pair] < least })
	}
	for n := 0; n < most && !met(); n++ {
		var (
			name  = fmt.Sprint(n, ".") // which no other one begins with
			b     = body{while: n % 4}
			clock atomic.Int64
			h     history
		)
		for round := range rounds {
			var (
				wg     sync.WaitGroup
				begun  atomic.Int64
				random = rand.New(rand.NewPCG(uint64(n), uint64(round)))
				ready  = make(chan struct{})
				all    [goroutines]history
			)
			for g := range goroutines {
				in := input{call: "start", number: uint(g*rounds + round)}
				if round > 0 {
					in.call = [...]string{"start", "stop", "restart", "pause", "resume", "replace", "reconcile"}[random.IntN(7)]
					in.choose(random)
				}
				wg.Go(func() {
					<-ready
					call := clock.Add(1)
					begun.Add(1)
					out := b.perform(m, name, in)
					all[g].add(g, in, out, call, clock.Add(1))
				})
			}
			close(ready)
			for begun.Load() < goroutines {
				for range m.Tasks() { // they are listed with the lock held, before the first comes
					break
				}
			}
			wg.Wait()
			call := clock.Add(1)
			found := b.perform(m, name, input{call: "lookup"})
			h = append(h, slices.Concat(all[:]...)...)
			h.add(goroutines, input{call: "lookup"}, found, call, clock.Add(1))
		}
		b.check(t, h)
		if err := m.StopTask(t.Context(), name); !errors.Is(err, taskmanager.ErrTaskNotRunning) {
			require.NoError(t, err)
		}
		entered.Add(b.entered.Load())
		h.addOverlaps(overlaps)
	}
	require.NoError(t, m.StopAll(t.Context()))
	assert.EqualValues(t, entered.Load(), m.Stats().Runs)
	assert.True(t, met(), "%v", overlaps)
}

// The model itself must tell good histories from bad ones.
func TestModelTellsGoodHistoriesFromBadOnes(t *testing.T) {
	var (
		a, b                      = new(taskmanager.Task), new(taskmanager.Task)
		start, stop, restart      = input{call: "start"}, input{call: "stop", number: 1}, input{call: "restart", number: 3}
		isRunning, lookup         = input{call: "running"}, input{call: "lookup"}
		secondStop, secondRestart = input{call: "stop", number: 2}, input{call: "restart", number: 4}
		taken, notFound           = output{err: taskmanager.ErrTaskRunning}, output{err: taskmanager.ErrTaskNotFound}
		notRunning, byStop, ok    = output{err: taskmanager.ErrTaskNotRunning}, output{err: taskmanager.ErrStopped}, output{}
		started, yes              = output{task: a}, output{running: true}
		none                      = output{task: a, state: taskmanager.StateWaiting}
		first                     = output{task: a, state: taskmanager.StateRunning, runs: 1}
		second                    = output{task: a, state: taskmanager.StateRunning, runs: 2}
		third                     = output{task: a, state: taskmanager.StateRunning, runs: 3}
		asked                     = output{task: a, state: taskmanager.StateStopping, runs: 1}
		over                      = output{task: a, state: taskmanager.StateStopped, runs: 1}

		pause, resume      = input{call: "pause", number: 5}, input{call: "resume"}
		replace, again     = input{call: "replace", number: 6, config: 1}, input{call: "replace", number: 7, config: 2}
		wanted, unwanted   = input{call: "reconcile", number: 8, config: 1}, input{call: "reconcile", number: 9}
		byPause, notPaused = output{err: taskmanager.ErrPaused}, output{err: taskmanager.ErrTaskNotPaused}
		resting            = output{task: a, state: taskmanager.StatePaused, runs: 1}
		replaced           = output{task: a, state: taskmanager.StateRunning, runs: 1, config: 1}
		replacedAgain      = output{task: a, state: taskmanager.StateRunning, runs: 1, config: 2}
		equal, gone        = output{performed: "equal"}, output{performed: "unwanted"}
		absent             = output{performed: "absent"}
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
			{start, started, 7, 8},
			{lookup, none, 9, 10},
			{lookup, first, 11, 12},
			{isRunning, yes, 13, 14},
			{restart, ok, 15, 16},
			{lookup, second, 17, 18},
			{stop, ok, 19, 20},
			{isRunning, ok, 21, 22},
			{secondStop, notRunning, 23, 24},
			{secondRestart, ok, 25, 26},
			{lookup, first, 27, 28},
			{start, taken, 29, 30},
		}, true},
		"two starts of a live task":      {[]call{{start, started, 1, 4}, {start, output{task: b}, 2, 3}}, false},
		"started anew as the old one":    {[]call{{start, started, 1, 2}, {stop, ok, 3, 4}, {start, started, 5, 6}}, false},
		"refused before there was any":   {[]call{{start, taken, 1, 2}, {start, started, 3, 4}}, false},
		"alive after its stop returned":  {[]call{{start, started, 1, 2}, {stop, ok, 3, 4}, {isRunning, yes, 5, 6}}, false},
		"two stops of one task":          {[]call{{start, started, 1, 2}, {stop, ok, 3, 6}, {secondStop, ok, 4, 5}}, true},
		"one stop after the other":       {[]call{{start, started, 1, 2}, {stop, ok, 3, 4}, {secondStop, ok, 5, 6}}, false},
		"gone, and then still taken":     {[]call{{start, started, 1, 2}, {stop, ok, 3, 10}, {isRunning, ok, 4, 5}, {start, taken, 6, 7}}, false},
		"forgotten although remembered":  {[]call{{start, started, 1, 2}, {stop, ok, 3, 4}, {secondStop, notFound, 5, 6}}, false},
		"another one is found":           {[]call{{start, started, 1, 2}, {lookup, output{task: b}, 3, 4}}, false},
		"none is found":                  {[]call{{start, started, 1, 2}, {lookup, ok, 3, 4}}, false},
		"not revived":                    {[]call{{start, started, 1, 2}, {stop, ok, 3, 4}, {restart, ok, 5, 6}, {isRunning, ok, 7, 8}}, false},
		"restarted though overtaken":     {[]call{{start, started, 1, 2}, {stop, ok, 3, 6}, {restart, byStop, 4, 5}}, true},
		"overtaken by nobody":            {[]call{{start, started, 1, 2}, {restart, byStop, 3, 4}}, false},
		"overtaken by a later stop":      {[]call{{start, started, 1, 2}, {restart, byStop, 3, 4}, {stop, ok, 5, 6}}, false},
		"overtaken after it asked":       {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, byStop, 5, 10}, {lookup, asked, 6, 7}, {stop, ok, 8, 9}}, true},
		"restarted, and not found":       {[]call{{start, started, 1, 2}, {restart, notFound, 3, 4}}, false},
		"stopping, asked by nobody":      {[]call{{start, started, 1, 2}, {lookup, asked, 3, 4}}, false},
		"running, told to return":        {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {stop, ok, 5, 10}, {lookup, asked, 6, 7}, {lookup, first, 8, 9}}, false},
		"ended, told to return":          {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {stop, ok, 5, 8}, {lookup, over, 6, 7}}, true},
		"no run was lost":                {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {lookup, none, 5, 6}}, false},
		"a run that nobody asked for":    {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {lookup, second, 5, 6}}, false},
		"restarted without a run":        {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 6}, {lookup, first, 7, 8}}, false},
		"restarted with two runs":        {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 6}, {lookup, third, 7, 8}}, false},
		"restarted, returned before":     {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 6}, {lookup, asked, 7, 8}}, false},
		"restarted before its first run": {[]call{{start, started, 1, 2}, {restart, ok, 3, 4}, {lookup, first, 5, 6}}, true},
		"two restarts share a run":       {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 8}, {secondRestart, ok, 6, 7}, {lookup, second, 9, 10}}, true},
		"two restarts, a run each":       {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 8}, {secondRestart, ok, 6, 7}, {lookup, third, 9, 10}}, true},
		"two in order share a run":       {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 6}, {secondRestart, ok, 7, 8}, {lookup, second, 9, 10}}, false},
		"revived with the old count":     {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {stop, ok, 5, 6}, {restart, ok, 7, 8}, {lookup, second, 9, 10}}, false},

		"paused in order": {[]call{
			{pause, notFound, 1, 2},
			{resume, notFound, 3, 4},
			{start, started, 5, 6},
			{lookup, first, 7, 8},
			{resume, notPaused, 9, 10},
			{pause, ok, 11, 12},
			{lookup, resting, 13, 14},
			{resume, ok, 15, 16},
			{lookup, second, 17, 18},
			{stop, ok, 19, 20},
			{pause, notRunning, 21, 22},
		}, true},
		"paused, and running":             {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {pause, ok, 5, 6}, {lookup, first, 7, 8}}, false},
		"resumed, and paused":             {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {pause, ok, 5, 6}, {resume, ok, 7, 8}, {lookup, resting, 9, 10}}, false},
		"resumed by nobody":               {[]call{{start, started, 1, 2}, {pause, ok, 3, 4}, {lookup, first, 5, 6}}, false},
		"resumed twice":                   {[]call{{start, started, 1, 2}, {pause, ok, 3, 4}, {resume, ok, 5, 6}, {resume, ok, 7, 8}}, false},
		"a pause before the restart":      {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, byPause, 5, 8}, {pause, ok, 6, 7}}, true},
		"a pause by nobody":               {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, byPause, 5, 6}}, false},
		"replaced in its second run":      {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {restart, ok, 5, 6}, {replace, started, 7, 8}, {lookup, replaced, 9, 10}}, true},
		"replaced, with the old count":    {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, started, 5, 6}, {lookup, second, 7, 8}}, false},
		"replaced, with the old body":     {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, started, 5, 6}, {lookup, first, 7, 8}}, false},
		"replaced, by another task":       {[]call{{start, started, 1, 2}, {replace, output{task: b}, 3, 4}}, false},
		"replaced, and free between":      {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, started, 5, 8}, {isRunning, ok, 6, 7}}, false},
		"the latest counts":               {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, started, 5, 6}, {again, started, 7, 8}, {lookup, replaced, 9, 10}}, false},
		"either of two at once":           {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, started, 5, 8}, {again, started, 6, 7}, {lookup, replaced, 9, 10}}, true},
		"or the other one":                {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, started, 5, 8}, {again, started, 6, 7}, {lookup, replacedAgain, 9, 10}}, true},
		"replaced though overtaken":       {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, byStop, 5, 8}, {stop, ok, 6, 7}}, true},
		"replacement overtaken by nobody": {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {replace, byStop, 5, 6}}, false},
		"reconciled": {[]call{
			{unwanted, absent, 1, 2},
			{wanted, ok, 3, 4},
			{lookup, replaced, 5, 6},
			{wanted, equal, 7, 8},
			{lookup, replaced, 9, 10},
			{unwanted, gone, 11, 12},
			{isRunning, ok, 13, 14},
			{unwanted, absent, 15, 16},
		}, true},
		"equal, and another body":          {[]call{{start, started, 1, 2}, {wanted, equal, 3, 4}}, false},
		"equal, and stopped":               {[]call{{wanted, ok, 1, 2}, {stop, ok, 3, 4}, {wanted, equal, 5, 6}}, false},
		"absent, and alive":                {[]call{{start, started, 1, 2}, {unwanted, absent, 3, 4}}, false},
		"absent, for it was started again": {[]call{{start, started, 1, 2}, {lookup, first, 3, 4}, {unwanted, absent, 5, 8}, {restart, ok, 6, 7}, {lookup, first, 9, 10}}, true},
		"unwanted, and alive":              {[]call{{start, started, 1, 2}, {unwanted, gone, 3, 4}, {isRunning, yes, 5, 6}}, false},
		"unwanted, and never there":        {[]call{{unwanted, gone, 1, 2}}, false},
		"reconciled by another task":       {[]call{{start, started, 1, 2}, {wanted, ok, 3, 4}, {lookup, output{task: b, state: taskmanager.StateRunning, runs: 1, config: 1}, 5, 6}}, false},
	} {
		var h history
		for _, c := range c.calls {
			h.add(0, c.in, c.out, c.call, c.ret)
		}
		assert.Equal(t, c.want, porcupine.CheckOperations(model(), h), name)
	}
}
