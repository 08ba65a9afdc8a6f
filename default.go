package taskmanager

import (
	"context"
	"iter"
	"os"
	"sync/atomic"
)

// defaultManager is made when it is first used.
var defaultManager atomic.Pointer[Manager]

// Default returns the Manager that the functions of this package use. It has the default options,
// unless SetDefault has set another.
func Default() *Manager {
	for {
		if m := defaultManager.Load(); m != nil {
			return m
		}
		m, err := New()
		if err != nil {
			panic(err) // without options there is nothing to refuse
		}
		defaultManager.CompareAndSwap(nil, m) // unless somebody was first
	}
}

// SetDefault makes m the default Manager. The former one goes on with its tasks. After
// SetDefault(nil), the next use makes a new one.
func SetDefault(m *Manager) { defaultManager.Store(m) }

// StartTask calls [Manager.StartTask] on the default Manager.
func StartTask(name string, body TaskFunc, opts ...TaskOption) (*Task, error) {
	return Default().StartTask(name, body, opts...)
}

// StopTask calls [Manager.StopTask] on the default Manager.
func StopTask(ctx context.Context, name string) error { return Default().StopTask(ctx, name) }

// RestartTask calls [Manager.RestartTask] on the default Manager.
func RestartTask(ctx context.Context, name string) error { return Default().RestartTask(ctx, name) }

// StopTasks calls [Manager.StopTasks] on the default Manager.
func StopTasks(ctx context.Context, names ...string) error {
	return Default().StopTasks(ctx, names...)
}

// RestartFailed calls [Manager.RestartFailed] on the default Manager.
func RestartFailed(ctx context.Context) (int, error) { return Default().RestartFailed(ctx) }

// ReplaceTask calls [Manager.ReplaceTask] on the default Manager.
func ReplaceTask(ctx context.Context, name string, body TaskFunc, opts ...TaskOption) (*Task, error) {
	return Default().ReplaceTask(ctx, name, body, opts...)
}

// TriggerTask calls [Manager.TriggerTask] on the default Manager.
func TriggerTask(name string) error { return Default().TriggerTask(name) }

// PauseTask calls [Manager.PauseTask] on the default Manager.
func PauseTask(ctx context.Context, name string) error { return Default().PauseTask(ctx, name) }

// ResumeTask calls [Manager.ResumeTask] on the default Manager.
func ResumeTask(name string) error { return Default().ResumeTask(name) }

// Reconcile calls [Manager.Reconcile] on the default Manager.
func Reconcile(ctx context.Context, prefix string, specs iter.Seq[Spec]) (Changes, error) {
	return Default().Reconcile(ctx, prefix, specs)
}

// StopAll calls [Manager.StopAll] on the default Manager.
func StopAll(ctx context.Context) error { return Default().StopAll(ctx) }

// IsRunning calls [Manager.IsRunning] on the default Manager.
func IsRunning(name string) bool { return Default().IsRunning(name) }

// Lookup calls [Manager.Lookup] on the default Manager.
func Lookup(name string) (*Task, bool) { return Default().Lookup(name) }

// Stats calls [Manager.Stats] on the default Manager.
func Stats() ManagerStats { return Default().Stats() }

// SetReporter calls [Manager.SetReporter] on the default Manager.
func SetReporter(r Reporter) { Default().SetReporter(r) }

// Run calls [Manager.Run] on the default Manager.
func Run(ctx context.Context) error { return Default().Run(ctx) }

// RunUntilSignal calls [Manager.RunUntilSignal] on the default Manager.
func RunUntilSignal(signals ...os.Signal) error { return Default().RunUntilSignal(signals...) }
