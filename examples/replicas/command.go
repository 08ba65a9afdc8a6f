package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// verbs are what can be done to a replica.
var verbs = []string{"kill", "freeze", "resume", "stop", "start"}

// A command is a line that somebody has entered.
type command struct {
	verb    string // one of verbs, or "quit"; empty for an empty line
	replica int    // from 1; 0 for quit
}

func parseCommand(line string) (command, error) {
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return command{}, nil
	case len(words) == 1 && words[0] == "quit":
		return command{verb: "quit"}, nil
	case !slices.Contains(verbs, words[0]):
		return command{}, fmt.Errorf("there is no command %.20q: %s or quit", words[0], strings.Join(verbs, ", "))
	case len(words) != 2:
		return command{}, fmt.Errorf("%s which replica? %s 1, for example", words[0], words[0])
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 1 || n > replicas {
		return command{}, fmt.Errorf("there is no replica %.20q: 1 to %d", words[1], replicas)
	}
	return command{words[0], n}, nil
}
