package taskmanager

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-taskmanager/taskmanager/internal/goroutines"
)

// Dumps are made of all goroutines of the process, which takes long when there are many: one to two seconds for 100,000. One
// serves all who ask for stacks while the one before is being made. It also looks at the records that the runtime keeps of goroutines
// that have ended, of which there are as many as have ever been at once.
type dumps struct {
	running      sync.Mutex   // held while one is made
	perGoroutine atomic.Int64 // how many nanoseconds the latest one has taken for each goroutine; 0 if there was none

	mu   sync.Mutex
	next *dump // who asks now is served by this one; nil if nobody has asked
}

type dump struct {
	runs  []*run
	done  chan struct{} // closed when found is set
	found map[*run][]byte
}

// Stack shows where the goroutines of the task are at this moment, those that its body has started included, in the form of
// [StopTimeoutError].Stack. It is nil if no body executes. Those of tasks within a [Group] are not among them.
//
// It takes a dump of all goroutines of the process, up to 20 microseconds for each of them, and calls at the same time share one.
// For several tasks use [Stacks]. A body may ask for its own.
func (t *Task) Stack() []byte { return Stacks(t)[t] }

// Stacks returns what [Task.Stack] shows of each of tasks, which may be of several Managers, by one dump of all goroutines. A task of
// which no body executes is not in it. A nil one is ignored.
func Stacks(tasks ...*Task) map[*Task][]byte {
	var runs []*run
	for _, t := range tasks {
		if t == nil {
			continue
		}
		t.mu.Lock()
		if t.run != nil {
			runs = append(runs, t.run)
		}
		t.mu.Unlock()
	}
	found := make(map[*Task][]byte, len(runs))
	if len(runs) == 0 {
		return found
	}
	all := runs[0].task.config().manager.stacks(runs)
	for _, r := range runs {
		if stack, ok := all[r]; ok {
			found[r.task] = stack
		}
	}
	return found
}

// stacks returns for each of runs, which may be of tasks of other Managers, too, where its goroutines are; nothing for one that is over by
// then: what is found under its name may be the next run's, or another task's.
func (m *Manager) stacks(runs []*run) map[*run][]byte {
	if len(runs) == 0 {
		return nil
	}
	ds := &m.dumps
	ds.mu.Lock()
	d := ds.next
	first := d == nil
	if first {
		d = &dump{done: make(chan struct{})}
		ds.next = d
	}
	d.runs = append(d.runs, runs...)
	ds.mu.Unlock()
	if !first {
		<-d.done
		return d.found
	}
	ds.running.Lock()
	ds.mu.Lock()
	ds.next = nil
	ds.mu.Unlock()
	began, n := time.Now(), runtime.NumGoroutine()
	tasks := make([]goroutines.Task, len(d.runs))
	for i, r := range d.runs {
		tasks[i] = goroutines.Task{Manager: r.task.config().manager.id, Name: r.task.name}
	}
	stacks := goroutines.Stacks(tasks...)
	ds.perGoroutine.Store(int64(time.Since(began)) / int64(n))
	d.found = make(map[*run][]byte, len(stacks))
	for i, r := range d.runs {
		if stack, ok := stacks[tasks[i]]; ok && r.isUnderWay() {
			d.found[r] = stack
		}
	}
	ds.running.Unlock()
	close(d.done)
	return d.found
}

// lead returns how long before a deadline a dump must begin to be there in time; 0 if that makes no difference to anybody.
func (ds *dumps) lead() time.Duration {
	const (
		usual = 10 * time.Microsecond // for each goroutine, where none was made yet: with 100,000 tasks, in bench/
		least = 10 * time.Millisecond
	)
	each := time.Duration(ds.perGoroutine.Load())
	if each == 0 {
		each = usual
	}
	if d := each * time.Duration(runtime.NumGoroutine()) * 5 / 4; d >= least {
		return d
	}
	return 0
}
