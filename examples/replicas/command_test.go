package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]command{
		"":               {},
		"  \t":           {},
		"quit":           {verb: "quit"},
		" quit ":         {verb: "quit"},
		"kill 1":         {"kill", 1},
		"freeze 2":       {"freeze", 2},
		"resume 2":       {"resume", 2},
		"\tstop  3 ":     {"stop", 3},
		"start 3":        {"start", 3},
		"start 0000003 ": {"start", 3},
	} {
		got, err := parseCommand(line)
		require.NoError(t, err, line)
		assert.Equal(t, want, got, line)
	}
}

func TestParseCommandRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"kill":          "kill which replica? kill 1, for example",
		"freeze 1 2":    "freeze which replica? freeze 1, for example",
		"stop 0":        `there is no replica "0": 1 to 3`,
		"stop 4":        `there is no replica "4": 1 to 3`,
		"stop -1":       `there is no replica "-1": 1 to 3`,
		"start one":     `there is no replica "one": 1 to 3`,
		"murder 1":      `there is no command "murder": kill, freeze, resume, stop, start or quit`,
		"QUIT":          `there is no command "QUIT": kill, freeze, resume, stop, start or quit`,
		"quit 1":        `there is no command "quit": kill, freeze, resume, stop, start or quit`,
		"\x1b[A kill 1": `there is no command "\x1b[A": kill, freeze, resume, stop, start or quit`,
	} {
		_, err := parseCommand(line)
		assert.EqualError(t, err, want, line)
	}
}
