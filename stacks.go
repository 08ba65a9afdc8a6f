package taskmanager

import (
	"runtime/pprof"

	"github.com/go-taskmanager/taskmanager/internal/goroutines"
)

// labels returns the pprof labels of the goroutines of a task.
func (m *Manager) labels(task string) pprof.LabelSet { return goroutines.Labels(m.id, task) }

// stacks returns for each of tasks where its goroutines are. It makes one dump of all goroutines of
// the process for all of them.
func (m *Manager) stacks(tasks []*Task) map[*Task][]byte {
	if len(tasks) == 0 {
		return nil
	}
	names := make([]string, len(tasks))
	for i, t := range tasks {
		names[i] = t.name
	}
	byName := goroutines.Stacks(m.id, names...)
	stacks := make(map[*Task][]byte, len(byName))
	for _, t := range tasks {
		if stack, ok := byName[t.name]; ok {
			stacks[t] = stack
		}
	}
	return stacks
}
