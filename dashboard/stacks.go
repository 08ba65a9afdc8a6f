package dashboard

import (
	"context"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// stackDumps are where the goroutines of tasks are, for all who ask. To find out takes a dump of all goroutines of the process, so there
// is one a second at most, and one serves all who have asked since the one before.
type stackDumps struct {
	mu    sync.Mutex
	next  *stackDump // which has not begun
	began time.Time  // the latest one
}

const stackDumpEvery = time.Second

type stackDump struct {
	tasks map[*taskmanager.Task]struct{}
	done  chan struct{} // closed when the others are set
	at    time.Time
	found map[*taskmanager.Task][]byte
}

// of returns where the goroutines of t are, nil if it has none, and when that was.
func (s *stackDumps) of(ctx context.Context, t *taskmanager.Task) (stack []byte, at time.Time, err error) {
	s.mu.Lock()
	dump := s.next
	first := dump == nil
	if first {
		dump = &stackDump{tasks: make(map[*taskmanager.Task]struct{}), done: make(chan struct{})}
		s.next = dump
	}
	dump.tasks[t] = struct{}{}
	wait := time.Until(s.began.Add(stackDumpEvery))
	s.mu.Unlock()
	if first { // for the others, too, so that the end of ctx does not end it
		time.Sleep(wait)
		s.make(dump)
	}
	select {
	case <-dump.done:
		return dump.found[t], dump.at, nil
	case <-ctx.Done():
		return nil, time.Time{}, context.Cause(ctx)
	}
}

func (s *stackDumps) make(dump *stackDump) {
	s.mu.Lock()
	s.next, s.began = nil, time.Now()
	s.mu.Unlock()
	tasks := make([]*taskmanager.Task, 0, len(dump.tasks))
	for t := range dump.tasks {
		tasks = append(tasks, t)
	}
	dump.found, dump.at = taskmanager.Stacks(tasks...), time.Now()
	close(dump.done)
}
