package taskmanager

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/internal/window"
)

// It takes a million failures in a row to see that no delay is out of bounds: these are white-box tests
// because each failure would need its run.
func TestBackoffOfAMillionFailuresIsWithinBounds(t *testing.T) {
	for _, c := range []taskConfig{
		{initial: 2 * time.Second, longest: time.Minute, factor: 1.5, jitter: 0.1},
		{initial: math.MaxInt64, longest: math.MaxInt64, factor: 1e300, jitter: 1},
		{initial: 1, longest: math.MaxInt64, factor: 1e300, jitter: 0.5},
		{initial: math.MaxInt64 - 1, longest: math.MaxInt64, factor: 1, jitter: 1},
		{initial: 1, longest: math.MaxInt64, factor: math.MaxFloat64, jitter: 0},
		{initial: 1, longest: 1, factor: 1, jitter: 1},
		{initial: 1, longest: 2, factor: 1.000001, jitter: 0.999},
	} {
		t.Run(fmt.Sprintf("%d to %d by %g, %g", c.initial, c.longest, c.factor, c.jitter), func(t *testing.T) {
			delays, err := c.newDelays()
			require.NoError(t, err)
			for i := range 1_000_000 {
				// Not assert for each of them: it is slow.
				if d, err := nextDelay(delays, i%1000 == 999); err != nil || d <= 0 || d > c.longest {
					require.FailNow(t, "out of bounds", "delay %d is %v, %v", i, d, err)
				}
			}
		})
	}
}

// A delay that jitter has made nothing is the shortest there is, not the longest.
func TestBackoffOfANanosecondIsJittered(t *testing.T) {
	c := taskConfig{initial: 1, longest: time.Hour, factor: 1, jitter: 1}
	delays, err := c.newDelays()
	require.NoError(t, err)
	for range 1000 {
		d, err := nextDelay(delays, false)
		require.NoError(t, err)
		require.LessOrEqual(t, d, 2*time.Nanosecond)
		require.Positive(t, d)
	}
}

func TestBackoffPolicyThatEndsHasNoDelay(t *testing.T) {
	d, err := nextDelay(&backoff.StopBackOff{}, true)
	assert.Zero(t, d)
	assert.Equal(t, errPolicyStop, err)
	d, err = nextDelay(backoff.NewConstantBackOff(-2), true)
	assert.Zero(t, d)
	assert.EqualError(t, err, "taskmanager: backoff policy returned a negative delay: -2ns")
}

func TestBackoffGrowsToTheCapAndStaysThere(t *testing.T) {
	for _, c := range []taskConfig{
		{initial: 10, longest: math.MaxInt64, factor: 1.5},
		{initial: 3, longest: math.MaxInt64, factor: 1e18},
		{initial: time.Second, longest: time.Hour, factor: 1.01},
	} {
		delays, err := c.newDelays()
		require.NoError(t, err)
		last := time.Duration(0)
		for range 2000 {
			d, err := nextDelay(delays, false)
			require.NoError(t, err)
			require.GreaterOrEqual(t, d, last)
			last = d
		}
		assert.Equal(t, c.longest, last)
	}
}

// What a task without a limit remembers of its restarts is bounded all the same.
func TestBackoffKeepsABoundedWindowOfAnUnlimitedTask(t *testing.T) {
	c := taskConfig{maxRestarts: Unlimited}
	var w window.Window
	now := time.Now()
	for range 10_000 {
		w.Add(now, c.windowCapacity())
	}
	assert.Equal(t, 1000, w.Count(now, time.Minute))
	assert.Equal(t, 3, (&taskConfig{maxRestarts: 3}).windowCapacity())
}

// Whether the limit can be reached is what trying every sequence of runs says: each fails at once, or as soon as it is healthy.
func TestBackoffMakesTheLimitUnreachable(t *testing.T) {
	reached, unreachable := 0, 0
	for maxRestarts := 1; maxRestarts <= 6; maxRestarts++ {
		for _, factor := range []float64{1, 1.5, 2, 3} {
			for initial := range time.Duration(4) {
				for _, longest := range []time.Duration{initial, 5 * min(1, initial), 1000 * min(1, initial)} { // 0 for both, if for one
					for healthy := time.Duration(1); healthy <= 20; healthy += 3 {
						c := taskConfig{
							maxRestarts: maxRestarts, healthyAfter: healthy, initial: initial, longest: longest, factor: factor,
							jitter: 0.25 * float64(healthy%2),
						}
						least := c.leastTime(maxRestarts, initial)
						for c.window = max(1, least-2); c.window < least+3; c.window++ {
							require.Equal(t, least >= c.window, c.limitUnreachable(), "at least %d of %+v", least, c)
							if least >= c.window {
								unreachable++
							} else {
								reached++
							}
						}
					}
				}
			}
		}
	}
	assert.Greater(t, reached, 1000)
	assert.Greater(t, unreachable, 1000)
}

// leastTime is the least time from one failure to the nth after it, if the next delay is that.
func (c *taskConfig) leastTime(n int, delay time.Duration) time.Duration {
	least := max(time.Duration(float64(delay)*(1-c.jitter)), min(delay, 1))
	if n == 1 {
		return least
	}
	grown := min(time.Duration(float64(delay)*c.factor), c.longest)
	return least + min(c.leastTime(n-1, grown), c.healthyAfter+c.leastTime(n-1, c.initial))
}
