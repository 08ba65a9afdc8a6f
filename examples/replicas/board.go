package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A board is what is known of the replicas. It shows that as a table that is drawn anew, or as a line for each change.
type board struct {
	out    io.Writer
	redraw bool

	mu       sync.Mutex // guards what follows, and out
	intro    string
	rows     [replicas]row
	ends     map[string]end    // of tasks that run on one replica: the last one
	taken    map[string]int    // writes, by task
	written  map[string]uint64 // the largest token of a write, by task
	refused  map[int]int       // writes, by replica
	latest   []string          // lines
	outdated bool              // what is drawn
	changed  chan struct{}     // closed and replaced at each change
}

// A row is one replica.
type row struct {
	state string            // of the process
	tasks map[string]report // those that run or wait
}

// An end is how a task has ended on a replica.
type end struct {
	token uint64
	at    time.Time
	how   string // "replica 1 was killed"
}

func newBoard(out io.Writer, redraw bool) *board {
	b := &board{
		out: out, redraw: redraw, changed: make(chan struct{}),
		ends: map[string]end{}, taken: map[string]int{}, written: map[string]uint64{}, refused: map[int]int{},
	}
	for i := range b.rows {
		b.rows[i] = row{state: dead, tasks: map[string]report{}}
	}
	return b
}

// read notes what replica n reports, until it ends.
func (b *board) read(n int, from io.Reader) {
	for d := json.NewDecoder(from); ; {
		var r report
		if d.Decode(&r) != nil {
			return // also if it was killed in the middle of a report
		}
		b.report(n, r)
	}
}

func (b *board) report(n int, r report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changeLocked()
	tasks := b.rows[n-1].tasks
	say := b.sayLocked
	if b.redraw && strings.HasPrefix(r.Task, tenantPrefix) { // the table is enough for them
		say = func(time.Time, string, ...any) {}
	}
	switch r.State {
	case runs:
		after := ""
		if e, ok := b.ends[r.Task]; ok && e.token < r.Token {
			after = fmt.Sprintf(", %v after %s", rounded(r.At.Sub(e.at)), e.how)
		}
		say(r.At, "%s runs on replica %d with token %d%s", r.Task, n, r.Token, after)
		tasks[r.Task] = r
	case waits:
		say(r.At, "%s on replica %d %s", r.Task, n, r.Status)
		tasks[r.Task] = r
	case returned:
		say(r.At, "%s has returned on replica %d: %s", r.Task, n, r.Status)
		b.endLocked(r, end{r.Token, r.At, fmt.Sprintf("it had returned on replica %d", n)})
		delete(tasks, r.Task)
	}
}

// rounded is d with as many digits as people read.
func rounded(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}

// process notes what has become of the process of replica n, and says so.
func (b *board) process(n int, state, what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changeLocked()
	now := time.Now()
	b.sayLocked(now, "replica %d %s", n, what)
	x := &b.rows[n-1]
	before := x.state
	x.state = state
	if state == frozen || state == dead && before != frozen { // what is frozen does nothing any more before it dies
		for _, r := range x.tasks {
			if r.State == runs {
				b.endLocked(r, end{r.Token, now, fmt.Sprintf("replica %d %s", n, what)})
			}
		}
	}
	if state == dead {
		clear(x.tasks)
	}
}

// endLocked notes that a run, which r has reported, is over, unless another one has begun since.
func (b *board) endLocked(r report, e end) {
	if r.Task == poller { // of the two that run, none follows the other
		return
	}
	if b.ends[r.Task].token > e.token {
		return
	}
	for _, x := range b.rows {
		if other := x.tasks[r.Task]; other.State == runs && other.Token > e.token {
			return
		}
	}
	b.ends[r.Task] = e
}

// wrote notes a write, which was refused if err is not nil.
func (b *board) wrote(w write, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changeLocked()
	if err == nil {
		b.taken[w.task]++
		b.written[w.task] = w.token
		return
	}
	b.refused[w.replica]++
	b.sayLocked(time.Now(), "%s of replica %d: %v", w.task, w.replica, err)
}

// say prints a line.
func (b *board) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changeLocked()
	b.sayLocked(time.Now(), format, args...)
}

func (b *board) sayLocked(at time.Time, format string, args ...any) {
	line := at.Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	if !b.redraw {
		fmt.Fprintln(b.out, line)
		return
	}
	b.latest = append(b.latest, line)
	b.latest = b.latest[max(0, len(b.latest)-keptLines):]
}

func (b *board) changeLocked() {
	b.outdated = true
	close(b.changed)
	b.changed = make(chan struct{})
}

// await blocks until what it is given reports true, which is called with b.mu held.
func (b *board) await(ctx context.Context, reached func() bool) error {
	for {
		b.mu.Lock()
		ok, changed := reached(), b.changed
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// runningLocked returns the numbers of the replicas that run a task, as far as they are not frozen.
func (b *board) runningLocked(task string) []int { return b.inStateLocked(task, runs) }

// waitingLocked returns the numbers of the replicas that wait to run a task, as far as they are not frozen.
func (b *board) waitingLocked(task string) []int { return b.inStateLocked(task, waits) }

// tenantsLocked returns how many tenants run on replicas that are not frozen.
func (b *board) tenantsLocked() int {
	n := 0
	for _, x := range b.rows {
		for task, r := range x.tasks {
			if x.state == running && r.State == runs && strings.HasPrefix(task, tenantPrefix) {
				n++
			}
		}
	}
	return n
}

// aliveLocked returns how many replicas run that are not frozen.
func (b *board) aliveLocked() int {
	alive := 0
	for _, x := range b.rows {
		if x.state == running {
			alive++
		}
	}
	return alive
}

func (b *board) inStateLocked(task, state string) []int {
	var all []int
	for i, x := range b.rows {
		if x.state == running && x.tasks[task].State == state {
			all = append(all, i+1)
		}
	}
	return all
}
