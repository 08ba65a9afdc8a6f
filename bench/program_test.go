package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/bench/report"
)

// childrenEndAtOnce keeps the race detector from letting each child sleep for a second at its end.
func childrenEndAtOnce(t *testing.T) {
	t.Helper()
	t.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
}

func TestProgramMeasuresInProcessesOfTheirOwnAndWrites(t *testing.T) {
	childrenEndAtOnce(t)
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	args := []string{"-quick", "-rounds", "2", "-only", "^(parked/1/|down/error/(floor|suture))", "-o", dir}
	require.NoError(t, program(t.Context(), args, &stdout, &stderr))
	assert.Equal(t, "wrote "+filepath.Join(dir, "RESULTS.md")+"\n", stdout.String())
	progress := stderr.String()
	assert.Equal(t, 2*(len(sides)+2), strings.Count(progress, "\n"))
	assert.Less(t, strings.Index(progress, "round 1 of 2: parked/1/floor\n"), strings.Index(progress, "round 1 of 2: parked/1/taskmanager\n"))
	assert.Less(t, strings.Index(progress, "round 2 of 2: parked/1/taskmanager\n"), strings.Index(progress, "round 2 of 2: parked/1/floor\n"),
		"another side begins in each round")

	text, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	require.NoError(t, err)
	assert.Contains(t, string(text), "Made by `go run ./bench -only ^(parked/1/|down/error/(floor|suture)) -quick -rounds 2` on ")
	assert.NotContains(t, string(text), dir)
	for _, s := range sides {
		assert.Regexp(t, `\n\| (\*\*)?`+s.name+`(\*\*)? \| \d`, string(text))
	}
	svg, err := os.ReadFile(filepath.Join(dir, "chart.svg"))
	require.NoError(t, err)
	wellFormed(t, string(svg))
}

func TestProgramPrintsWhatItDoesNotWrite(t *testing.T) {
	childrenEndAtOnce(t)
	var stdout bytes.Buffer
	require.NoError(t, program(t.Context(), []string{"-quick", "-only", "^down/error/(floor|suture)", "-skip", "suture"}, &stdout, io.Discard))
	assert.Contains(t, stdout.String(), "### From an error to running again\n")
	assert.Contains(t, stdout.String(), ": one round.\n")
	assert.Contains(t, stdout.String(), "\n| suture v4 | – |")
}

func TestProgramRefusesBadArguments(t *testing.T) {
	for _, args := range []string{
		"extra", "-rounds -1", "-soak -1s", "-soak 1s -quick", "-soak 1s -only x", "-soak 1s -rounds 2", "-only (", "-quick -only nothing", "-quick -skip .", "-unknown",
		"-soak 1s -skip x", "-skip (",
		"-compare .. -soak 1s", "-compare .. -o .",
	} {
		assert.Error(t, program(t.Context(), strings.Fields(args), io.Discard, io.Discard), args)
	}
	assert.ErrorIs(t, program(t.Context(), []string{"-h"}, io.Discard, io.Discard), flag.ErrHelp)
}

func TestSettingsByDefault(t *testing.T) {
	s, err := parse(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 3, s.rounds)
	assert.Equal(t, ".", s.out, "this test runs in the program's own directory")
	assert.Equal(t, "go run ./bench", s.command)
	s, err = parse([]string{"-quick"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 1, s.rounds)
	assert.Empty(t, s.out)
	s, err = parse([]string{"-compare", ".."}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 5, s.rounds)
	assert.Empty(t, s.out)
	for _, flag := range []string{"-only", "-skip"} {
		s, err = parse([]string{flag, "storm"}, io.Discard)
		require.NoError(t, err)
		assert.Empty(t, s.out, flag)
	}

	t.Chdir(t.TempDir())
	_, err = parse(nil, io.Discard)
	assert.Error(t, err, "there is no such directory")
}

func TestOrdersThatCannotBeCarriedOut(t *testing.T) {
	childrenEndAtOnce(t)
	ctx := t.Context()
	_, err := order{Work: "nothing", Side: floorName, Quick: true}.delegate(ctx)
	assert.ErrorContains(t, err, `there is no work "nothing"`)
	_, err = order{Work: "churn", Side: "nobody", Quick: true}.delegate(ctx)
	assert.ErrorContains(t, err, `there is no side "nobody"`)

	gone, leave := context.WithCancel(ctx)
	leave()
	_, err = order{Work: "churn", Side: floorName, Quick: true}.delegate(gone)
	assert.ErrorIs(t, err, context.Canceled)
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = order{Work: "storm/500", Side: floorName, Quick: true}.delegate(soon)
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	t.Setenv(orderVariable, "{")
	obeyed, err := obey(io.Discard)
	assert.True(t, obeyed)
	assert.Error(t, err)
}

func TestSoakFindsNothingThatGrows(t *testing.T) {
	k := newSoak(time.Second, 100)
	require.NoError(t, k.run(t.Context()))
	require.NoError(t, k.verdict())
	assert.Positive(t, k.starts.n)
	assert.Equal(t, k.starts.n, k.stops.n)
	assert.Positive(t, k.operations.Load())
	assert.Positive(t, k.crashes.Load())
	assert.Positive(t, k.reports.Load())
	assert.NotEmpty(t, k.heaps)

	text := k.markdown("go run ./bench -soak 1s", time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))
	assert.Contains(t, text, "Made by `go run ./bench -soak 1s` on 24 November 2026, ")
	assert.Regexp(t, `\n\| unrelated start \| p50 \S+ .s, p99 \S+ .s, max \S+ .s, of \d+ \|\n`, text)
	assert.Regexp(t, `\n\| ticks of the healthy \| \d\S*% of those that fit into the time, \d\S*% at most 10ms late; p99 \S+ .?s, max \S+ .?s late \|\n`, text)
	assert.Contains(t, text, "| two bodies of one name at once | never |\n")
	assert.NotContains(t, text, "Failed")
}

// A soak lasts for as long as it takes to have something to judge by.
func TestSoakTakesEnoughSamples(t *testing.T) {
	k := newSoak(time.Nanosecond, 1)
	require.NoError(t, k.run(t.Context()))
	assert.Len(t, k.heaps, soakFewest)
	assert.Len(t, k.goroutines, soakFewest)
}

func TestSoakThatIsBrokenOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, newSoak(time.Hour, 10).run(ctx), context.Canceled)
}

func TestSoakSeesGrowthAndDoubles(t *testing.T) {
	flat := func() *soak {
		k := newSoak(time.Second, 10)
		for range 80 {
			k.heaps, k.goroutines = append(k.heaps, 50<<20), append(k.goroutines, 1000)
		}
		k.snapshots.Store(80)
		return k
	}
	require.NoError(t, flat().verdict())
	growing := flat()
	for i := range growing.heaps {
		growing.heaps[i] += float64(i) * (1 << 20) / 5 // from 53 to 65 MiB
	}
	assert.ErrorContains(t, growing.verdict(), "the heap has grown")
	garbage := flat()
	for i := range garbage.heaps[40:] {
		garbage.heaps[40+i] += float64(i%10) * (10 << 20) // the latest, but for some
	}
	require.NoError(t, garbage.verdict())
	leaking := flat()
	for i := range leaking.goroutines {
		leaking.goroutines[i] += 10 * float64(i)
	}
	assert.ErrorContains(t, leaking.verdict(), "the goroutines have become more")
	doubled := flat()
	doubled.doubles.Add(1)
	assert.ErrorContains(t, doubled.verdict(), "two bodies of one name")
	assert.Contains(t, doubled.markdown("", time.Now()), "**Failed: ")
	blind := flat()
	blind.snapshots.Add(-1)
	assert.ErrorContains(t, blind.verdict(), "1 of 80 snapshots")
	few := flat()
	few.heaps, few.goroutines = few.heaps[:soakFewest], few.goroutines[:soakFewest]
	few.snapshots.Store(soakFewest)
	require.NoError(t, few.verdict())
	few.heaps = few.heaps[1:]
	assert.ErrorContains(t, few.verdict(), "7 samples: at least 8 are needed")
	none := newSoak(time.Second, 10)
	assert.ErrorContains(t, none.verdict(), "0 samples: ")

	fails := func(k *soak) {
		task, err := k.manager.StartTask("fails", func(context.Context) error { return errCrash }, taskmanager.WithRestart(taskmanager.RestartNever))
		require.NoError(t, err)
		require.ErrorIs(t, task.Wait(t.Context()), errCrash)
		require.NoError(t, k.manager.Shutdown(t.Context()))
	}
	reporting := flat()
	fails(reporting)
	require.NoError(t, reporting.verdict())
	losing := flat()
	losing.manager.SetReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
		return taskmanager.ErrReporterClosed
	}))
	fails(losing)
	assert.ErrorContains(t, losing.verdict(), "1 report lost")
	silent := flat()
	silent.manager.SetReporter(nil)
	fails(silent)
	assert.ErrorContains(t, silent.verdict(), "of 1 failures, 0 were reported")
}

func TestEndsOfASeries(t *testing.T) {
	series := make([]float64, 80)
	for i := range series {
		series[i] = float64(i)
	}
	early, late := ends(series, report.Median)
	assert.InDelta(t, 14.5, early, 0)
	assert.InDelta(t, 74.5, late, 0)
	early, late = ends(series, least)
	assert.InDelta(t, 10, early, 0)
	assert.InDelta(t, 70, late, 0)
	early, late = ends([]float64{3}, report.Median)
	assert.InDelta(t, 3, early, 0)
	assert.InDelta(t, 3, late, 0)
}
