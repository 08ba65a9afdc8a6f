package taskmanager

import (
	"fmt"
	"slices"
	"strings"
)

// mostNamed is how many tasks are named where there may be any number. All are counted.
const mostNamed = 10

// A nameList is the first of some names, and how many there are.
type nameList struct {
	names []string
	count int
}

// add counts a name, and keeps it if it is one of the first, in order, of which there are most.
func (l *nameList) add(name string, most int) {
	l.count++
	if at, _ := slices.BinarySearch(l.names, name); at < most {
		l.names = slices.Insert(l.names, at, name)
		l.names = l.names[:min(len(l.names), most)]
	}
}

// String lists them: "a, b and 3 more".
func (l *nameList) String() string {
	text := strings.Join(l.names, ", ")
	if more := l.count - len(l.names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
