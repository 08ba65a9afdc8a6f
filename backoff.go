package taskmanager

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// maxWindow bounds the memory of a window that nothing else bounds.
const maxWindow = 1000

// windowCapacity is how many restarts a window must remember under this configuration.
func (c *taskConfig) windowCapacity() int {
	if c.maxRestarts == Unlimited {
		return maxWindow
	}
	return c.maxRestarts
}

// newDelays returns the backoff of a new task; nil restarts at once. It may call the user's
// function.
func (c *taskConfig) newDelays() (_ backoff.BackOff, err error) {
	if c.policy != nil {
		defer func() {
			if v := recover(); v != nil {
				err = &OptionError{Option: "WithBackOffPolicy", Value: "func", Reason: "panicked: " + valueText(v)}
			}
		}()
		policy := c.policy()
		if policy == nil {
			return nil, &OptionError{Option: "WithBackOffPolicy", Value: "func", Reason: "returned nil"}
		}
		return policy, nil
	}
	if c.longest == 0 {
		return nil, nil
	}
	exponential := &backoff.ExponentialBackOff{
		InitialInterval:     c.initial,
		RandomizationFactor: c.jitter,
		Multiplier:          c.factor,
		MaxInterval:         c.longest,
		MaxElapsedTime:      0, // never Stop
		Stop:                backoff.Stop,
		Clock:               backoff.SystemClock,
	}
	exponential.Reset()
	return cappedBackOff{exponential}, nil
}

// A cappedBackOff keeps the delays of an ExponentialBackOff between 1 ns and its MaxInterval. By
// itself that adds jitter on top of MaxInterval, and near the largest Duration the sum overflows
// and is negative.
type cappedBackOff struct{ *backoff.ExponentialBackOff }

func (c cappedBackOff) NextBackOff() time.Duration {
	switch d := c.ExponentialBackOff.NextBackOff(); {
	case d < 0 || d > c.MaxInterval:
		return c.MaxInterval
	case d == 0:
		return 1
	default:
		return d
	}
}

// errPolicyStop is not shown to anybody: the failure before it says it all.
var errPolicyStop = errors.New("taskmanager: backoff policy returned Stop")

// nextDelay asks delays, which may be the user's, for the next one. An error means that the task
// must be given up.
func nextDelay(delays backoff.BackOff, healthy bool) (d time.Duration, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("taskmanager: backoff policy panicked: %s", valueText(v))
		}
	}()
	if healthy {
		delays.Reset()
	}
	d = delays.NextBackOff()
	switch {
	case d == backoff.Stop:
		return 0, errPolicyStop
	case d < 0:
		return 0, fmt.Errorf("taskmanager: backoff policy returned a negative delay: %v", d)
	}
	return d, nil
}

// limitUnreachable reports whether the backoff alone makes the restarts so rare that the limit
// can't be reached, even by a body that fails at once: the delays of as many restarts as are
// allowed take up the window.
func (c *taskConfig) limitUnreachable() bool {
	if c.policy != nil || c.restart == RestartNever {
		return false
	}
	// In float64, where nothing overflows. Jitter may shorten each delay.
	var (
		delay   = float64(c.initial)
		longest = float64(c.longest)
		shorter = 1 - c.jitter
		left    = float64(c.window)
	)
	const steps = 10_000 // enough for any factor that grows within the life of a process
	for i := range min(c.maxRestarts, steps) {
		if delay >= longest || c.factor == 1 {
			left -= float64(c.maxRestarts-i) * math.Min(delay, longest) * shorter
			break
		}
		left -= delay * shorter
		delay *= c.factor
	}
	if left > 0 {
		return false
	}
	// Runs that last long enough to reset the backoff may still come often enough.
	return float64(c.maxRestarts)*(float64(c.healthy())+float64(c.initial)*shorter) >= float64(c.window)
}
