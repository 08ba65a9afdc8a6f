package taskmanager

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What somebody has made up does no harm in a line, and takes no more room than a name.
func TestAskedByIsPrintable(t *testing.T) {
	emoji := strings.Repeat("\U0001F600", 100)
	for who, want := range map[string]string{
		"alice":                          "alice",
		"a\nb\x00c\u0085d":               "a\uFFFDb\uFFFDc\uFFFDd",
		"\xff\xfe alice \xe4\xb8":        "\uFFFD\uFFFD alice \uFFFD\uFFFD",
		strings.Repeat("a", 300):         strings.Repeat("a", 255),
		emoji:                            emoji[:4*63],
		"abc" + emoji:                    "abc" + emoji[:4*63],
		strings.Repeat("a", 253) + "\n":  strings.Repeat("a", 253),
		strings.Repeat("\n", 300):        strings.Repeat("\uFFFD", 85),
		"a" + strings.Repeat("\xff", 99): "a" + strings.Repeat("\uFFFD", 84),
	} {
		assert.Equal(t, want, askedBy(AskedBy(context.Background(), who)), "%q", who)
	}
}

func FuzzAskedBy(f *testing.F) {
	f.Add("a\nb")
	f.Add("\xff\u0085")
	f.Add(strings.Repeat("\U0001F600", 70))
	f.Add(strings.Repeat("\xf0\x9f\x98", 90))
	f.Fuzz(func(t *testing.T, who string) {
		got := askedBy(AskedBy(context.Background(), who))
		assert.Equal(t, who == "", got == "")
		assert.LessOrEqual(t, len(got), 255)
		assert.True(t, utf8.ValidString(got))
		assert.False(t, strings.ContainsFunc(got, unicode.IsControl))
		if len(who) <= 255 && utf8.ValidString(who) && !strings.ContainsFunc(who, unicode.IsControl) {
			assert.Equal(t, who, got)
		}
	})
}

// A report that stands for several events has who has asked for the latest of them; for several tasks, nobody.
func TestAskedByInReports(t *testing.T) {
	report := func(task, by string, at int64) *report {
		return newReport(&Event{Task: task, Kind: EventStuck, By: by, Time: time.Unix(at, 0)}, "")
	}
	r := report("a", "alice", 1)
	r.absorb(report("a", "bob", 2))
	assert.Equal(t, "bob", r.event.By)
	r.absorb(report("a", "carol", 0))
	assert.Equal(t, "bob", r.event.By)
	r.absorb(report("b", "bob", 3))
	assert.Empty(t, r.event.By)
}

// The contexts of bodies and of lines don't have it from that of the Manager, nor lines from what middleware has added.
func TestAskedByIsNotInherited(t *testing.T) {
	alice, bob := AskedBy(context.Background(), "alice"), AskedBy(context.Background(), "bob")
	task := undriven(t, quiet(WithContext(alice)), running)
	for _, ctx := range []context.Context{task.run, &watchedRun{run: task.run}, (*logContext)(task), logValues{(*logContext)(task), bob}} {
		assert.Empty(t, askedBy(ctx), "%T", ctx)
	}
	_ = task.run.Done() // there is an inner context from now on
	assert.Empty(t, askedBy(task.run))
	assert.Equal(t, "bob", askedBy(AskedBy(task.run, "bob")))
}

// Run, which Shutdown ends, may be faster to ask the tasks than that: it asks for whoever has called it.
func TestAskedByOfAShutdownThatRunIsFasterThan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := parked(t, time.Second)
		events := m.Subscribe(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(context.Background()) }()
		synctest.Wait()
		m.close(true, "alice")
		synctest.Wait()
		require.NoError(t, m.Shutdown(AskedBy(context.Background(), "bob")))
		require.NoError(t, <-ran)
		e := <-events
		assert.Equal(t, EventStopped, e.Kind)
		assert.Equal(t, "alice", e.By)
	})
}
