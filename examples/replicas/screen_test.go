package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func at(seconds int) time.Time { return time.Date(2026, 3, 14, 12, 3, seconds, 0, time.Local) }

func TestTable(t *testing.T) {
	rows := [replicas]row{
		{running, map[string]report{
			"digest":    {"digest", waits, 0, `waits for lease "digest", held by "replica 2" since 12:03`, at(2)},
			"poller":    {"poller", runs, 1, "", at(3)},
			"tenant-02": {"tenant-02", runs, 1, "", at(3)},
			"tenant-11": {"tenant-11", runs, 4, "", at(3)},
		}},
		{frozen, map[string]report{
			"digest":    {"digest", runs, 12, "", at(9)},
			"poller":    {"poller", waits, 0, `waits for lease "poller"`, at(3)},
			"tenant-07": {"tenant-07", runs, 1, "", at(3)},
		}},
		{dead, nil},
	}
	assert.Equal(t, strings.TrimPrefix(`
REPLICA  PROCESS  TASK     STATE    TOKEN  SINCE     STATUS
1        running  digest   waiting         12:03:02  waits for lease "digest", held by "replica 2" since 12:03
                  poller   running  1      12:03:03
                  tenants  running                   02 11
2        frozen   digest   frozen   12     12:03:09
                  poller   waiting         12:03:03  waits for lease "poller"
                  tenants  frozen                    07
3        dead
`, "\n"), table(rows))
}

// What is drawn on a terminal fits into 24 lines, whatever happens, and says what the table does.
func TestBoardRedraws(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&out, true)
	b.begin("Leases are kept in a drawer.")
	for n := 1; n <= replicas; n++ {
		b.process(n, running, "has started")
		for _, task := range []string{"digest", "poller", "tenant-01"} {
			b.report(n, report{task, runs, 1, "", at(n)})
		}
	}
	for range 20 {
		b.say("something")
	}
	b.report(1, report{"tenant-02", runs, 1, "", at(9)})
	b.wrote(write{"digest", 1, 1}, nil)
	b.wrote(write{"tenant-01", 1, 2}, nil)
	b.wrote(write{"digest", 1, 1}, errRefused)
	out.Reset()
	b.draw()
	shown := out.String()
	assert.Contains(t, shown, "3        running  digest   running  1      12:03:03")
	assert.Contains(t, shown, "The resource has taken 2 writes, and refused 1.")
	assert.Contains(t, shown, "digest of replica 1: the write was refused")
	assert.Contains(t, shown, "01 02", "the tenants of a replica are in one line")
	assert.NotContains(t, shown, "tenant-02 runs", "there are too many of them for lines of their own")
	assert.Equal(t, promptLine-1, strings.Count(shown, "\n")+1, "it ends above the line on which somebody types")
	assert.LessOrEqual(t, promptLine, 24)
	out.Reset()
	b.draw()
	assert.Empty(t, out.String(), "nothing has changed")
	b.entered()
	assert.Contains(t, out.String(), "> ")
	b.end()
	assert.True(t, strings.HasSuffix(out.String(), wrapLines+"\n"))
}

// Into a pipe or a file go lines, with no escape codes.
func TestBoardPrintsLines(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&out, false)
	b.begin("Leases are kept in a drawer.")
	b.process(1, running, "has started")
	b.report(1, report{"digest", runs, 1, "", at(1)})
	b.report(2, report{"digest", waits, 0, `waits for lease "digest"`, at(2)})
	b.report(1, report{"digest", returned, 1, "lease lost", at(3)})
	b.report(2, report{"digest", runs, 2, "", at(3).Add(4 * time.Millisecond)})
	b.draw()
	b.entered()
	b.end()
	lines := strings.Split(out.String(), "\n")
	require.Len(t, lines, 7)
	assert.Equal(t, "Leases are kept in a drawer.", lines[0])
	assert.Contains(t, lines[1], " replica 1 has started")
	assert.Equal(t, []string{
		"12:03:01.000 digest runs on replica 1 with token 1",
		`12:03:02.000 digest on replica 2 waits for lease "digest"`,
		"12:03:03.000 digest has returned on replica 1: lease lost",
		"12:03:03.004 digest runs on replica 2 with token 2, 4ms after it had returned on replica 1",
		"",
	}, lines[2:])
}
