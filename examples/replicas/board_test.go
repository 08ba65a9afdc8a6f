package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a run begins after is the end of the one before, by whatever it ended; a frozen one ended when it was frozen.
func TestBoardSaysSinceWhenNobodyRanATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := newBoard(&out, false)
		says := func(n int, token uint64, task string) string {
			out.Reset()
			b.report(n, report{task, runs, token, "", time.Now()})
			_, line, _ := strings.Cut(strings.TrimSpace(out.String()), " ")
			return line
		}
		for n := 1; n <= replicas; n++ {
			b.process(n, running, "has started")
		}
		assert.Equal(t, "digest runs on replica 1 with token 1", says(1, 1, "digest"))
		b.process(1, dead, "was killed")
		time.Sleep(5 * time.Second)
		assert.Equal(t, "digest runs on replica 2 with token 2, 5s after replica 1 was killed", says(2, 2, "digest"))
		b.process(2, frozen, "was frozen")
		time.Sleep(4 * time.Second)
		b.process(2, dead, "was killed")
		time.Sleep(2 * time.Second)
		assert.Equal(t, "digest runs on replica 3 with token 3, 6s after replica 2 was frozen", says(3, 3, "digest"))
		b.report(2, report{"digest", returned, 2, "lease lost", time.Now()}) // late
		b.process(3, stopping, "is asked to stop")
		b.report(3, report{"digest", returned, 3, "shutdown", time.Now()})
		time.Sleep(2 * time.Millisecond)
		assert.Equal(t, "digest runs on replica 1 with token 4, 2ms after it had returned on replica 3", says(1, 4, "digest"))
		b.report(2, report{"digest", returned, 2, "lease lost", time.Now()}) // later still
		b.process(1, dead, "was killed")
		b.report(2, report{"digest", returned, 2, "lease lost", time.Now()}) // and now
		time.Sleep(time.Second)
		assert.Equal(t, "digest runs on replica 2 with token 5, 1s after replica 1 was killed", says(2, 5, "digest"))

		assert.Equal(t, "poller runs on replica 2 with token 1", says(2, 1, "poller"))
		b.process(2, dead, "was killed")
		assert.Equal(t, "poller runs on replica 1 with token 2", says(1, 2, "poller"), "one of two follows nobody")
	})
}

func TestBoardReadsUntilTheEnd(t *testing.T) {
	b := newBoard(new(bytes.Buffer), false)
	b.process(2, running, "has started")
	b.read(2, strings.NewReader(`{"Task":"digest","State":"running","Token":7}`+"\n"+`{"Task":"poller","Sta`))
	require.Len(t, b.rows[1].tasks, 1)
	assert.Equal(t, uint64(7), b.rows[1].tasks["digest"].Token)
	b.process(2, dead, "was killed")
	assert.Empty(t, b.rows[1].tasks, "of a process that has ended nothing runs")
}

func TestBoardAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(new(bytes.Buffer), false)
		reached := func() bool { return b.taken[digest] == 2 }
		go func() {
			for range 2 {
				time.Sleep(time.Second)
				b.wrote(write{"digest", 1, 1}, nil)
			}
		}()
		begun := time.Now()
		require.NoError(t, b.await(t.Context(), reached))
		assert.Equal(t, 2*time.Second, time.Since(begun))
		cause := errors.New("too late")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		assert.Equal(t, cause, b.await(ctx, func() bool { return false }))
	})
}
