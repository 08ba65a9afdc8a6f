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

// limitUnreachable reports whether the backoff alone makes the restarts so rare that the limit can't be reached: the delays of as
// many restarts as are allowed take up the window, be it that the body fails at once, or that it runs, now and then, just
// long enough to reset the backoff.
func (c *taskConfig) limitUnreachable() bool {
	n := c.maxRestarts
	if c.policy != nil || c.restart == RestartNever || n <= 0 {
		return false
	}
	// In float64, where nothing overflows. Jitter may shorten each delay, and what is less than a nanosecond is cut off.
	const most = 10_000 // delays that grow, and resets, that are looked at: beyond, nothing is said
	var (
		window  = float64(c.window)
		longest = float64(c.longest)
		grown   = float64(c.initial) // the next delay
		delay   float64              // the latest of sums
		some    [64]float64
		sums    = append(some[:0], 0) // of the first delays after a reset
	)
	for {
		delay = math.Max(math.Floor(math.Min(grown, longest)*(1-c.jitter)), math.Min(longest, 1)) // as cappedBackOff has it
		sums = append(sums, sums[len(sums)-1]+delay)
		if len(sums) > min(n, most) || grown >= longest || c.factor == 1 {
			break
		}
		grown = math.Floor(grown * c.factor)
	}
	last := len(sums) - 1
	take := func(delays int) float64 { return sums[min(delays, last)] + float64(max(0, delays-last))*delay }
	for resets := range min(n, most) {
		healthy := float64(resets) * float64(c.healthy())
		if healthy >= window {
			return true
		}
		// As delays grow, it takes the least time if there are as many before each reset.
		each, more := n/(resets+1), n%(resets+1)
		least := healthy + float64(resets+1-more)*take(each)
		if more > 0 {
			least += float64(more) * take(each+1)
		}
		if least < window {
			return false
		}
	}
	return n <= most
}
