package dashboard

import "github.com/go-taskmanager/taskmanager"

// A trouble is what is wrong with a task, the worst first. The words, and their order, are those of [taskmanager.HealthReason], as far
// as statistics tell.
type trouble int

const (
	givenUp trouble = iota
	criticalCompleted
	stuck
	crashLoop
	failing
	notReady
	stopping
	paused
	none // it runs
	completed
	stopped
)

var troubles = [...]struct{ reason, class string }{
	givenUp:           {string(taskmanager.HealthGivenUp), "bad"},
	criticalCompleted: {"critical and completed", "bad"},
	stuck:             {string(taskmanager.HealthStuck), "bad"},
	crashLoop:         {string(taskmanager.HealthCrashLoop), "bad"},
	failing:           {string(taskmanager.HealthTaskFailing), "warn"},
	notReady:          {string(taskmanager.HealthNotReady), "warn"},
	stopping:          {"", ""},
	paused:            {"", ""},
	none:              {"", ""},
	completed:         {"", ""},
	stopped:           {"", ""},
}

// reason names it; empty if there is none.
func (t trouble) reason() string { return troubles[t].reason }

func (t trouble) class() string { return troubles[t].class }

// troubleOf judges a task.
func troubleOf(s *taskmanager.TaskStats) trouble {
	switch s.State {
	case taskmanager.StateFailed:
		return givenUp
	case taskmanager.StateStuck:
		return stuck
	case taskmanager.StateCompleted:
		if s.Critical {
			return criticalCompleted
		}
		return completed
	case taskmanager.StateStopped:
		return stopped
	case taskmanager.StatePaused:
		if !s.NextRunAt.IsZero() { // by its cooldown
			return givenUp
		}
		return paused
	}
	switch {
	case loops(s):
		return crashLoop
	case s.State == taskmanager.StateBackoff || s.ConsecutiveFailures > 1:
		return failing
	case s.State == taskmanager.StateStopping:
		return stopping
	case s.State == taskmanager.StateWaiting || !s.Ready:
		return notReady
	}
	return none
}

// loops reports whether the task has used up half of its restarts within the window, or three if it has no limit.
func loops(s *taskmanager.TaskStats) bool {
	const unlimited = 3
	if s.MaxRestarts == taskmanager.Unlimited {
		return s.RestartsInWindow >= unlimited
	}
	return s.RestartsInWindow > 0 && 2*s.RestartsInWindow >= s.MaxRestarts
}
