package lease

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// An Option configures an [Engine]; see [New].
type Option interface{ apply(*config) error }

type optionFunc func(*config) error

func (f optionFunc) apply(c *config) error { return f(c) }

// config is what the options set. It does not change after New.
type config struct {
	replica string
	ttl     time.Duration
	beat    time.Duration
	drift   float64
	keep    bool
	overrun func(lease string) // nil: none
	logger  *slog.Logger       // what it is given goes to lines
	lines   *logHandler
}

// span returns for how long a confirmed beat is trusted, from when it was sent.
func (c *config) span() time.Duration {
	return time.Duration(float64(c.ttl) * (1 - c.drift) / (1 + c.drift))
}

// WithReplica sets the name of this replica, for people: what waits elsewhere says that it is held by it. It need not be unique, has up
// to 255 bytes, and no control characters. The default is the name of the host, which is that of the pod in Kubernetes.
func WithReplica(name string) Option {
	return option("WithReplica", name, func(c *config) string {
		c.replica = name
		if err := CheckName(name); err != nil {
			return err.Error()
		}
		return ""
	})
}

// WithTTL sets after which time without a beat a replica is judged dead by the others. All replicas of a pool must have the same TTL.
// The default is 15 seconds.
func WithTTL(d time.Duration) Option {
	return option("WithTTL", d, func(c *config) string {
		c.ttl = d
		return reasonUnless(d > 0, "must be more than 0")
	})
}

// WithBeat sets how often a replica shows that it is alive. Each call of the engine may take that long, too. The time for which a beat
// is trusted, which is a little less than the TTL, must be at least two beats. The default is a fifth of the TTL.
func WithBeat(d time.Duration) Option {
	return option("WithBeat", d, func(c *config) string {
		c.beat = d
		return reasonUnless(d > 0, "must be more than 0")
	})
}

// WithDrift sets by which part the monotonic clock of each replica may be slow or fast: over a TTL, two may differ by less than the factor
// (1+rho)/(1-rho). A beat is trusted for TTL*(1-rho)/(1+rho). It is at least 0 and less than 1; the default is 0.05.
func WithDrift(rho float64) Option {
	return option("WithDrift", rho, func(c *config) string {
		c.drift = rho
		return reasonUnless(rho >= 0 && rho < 1 && !math.IsNaN(rho), "must be at least 0 and less than 1")
	})
}

// KeepWithoutEngine has a replica that doesn't reach the engine hold its leases until the engine says that its session is gone, instead of
// until its last confirmed beat is not trusted any longer. So work goes on while the engine is down for all, and when it is back. The price:
// if the engine is down for this replica alone, others begin after a TTL, and two work at the same time until this one hears of it.
func KeepWithoutEngine() Option {
	return optionFunc(func(c *config) error {
		c.keep = true
		return nil
	})
}

// WithOverrun sets a func that is called, once for each lease, when the lease may have another holder from now on and a body under it has
// not returned: it ignores that its context has ended, or takes longer than its stop timeout. Who can't bear that two bodies execute ends
// the process there, by os.Exit: a panic of it is logged, and ends nothing. Each call has a goroutine of its own. With [KeepWithoutEngine],
// it is called two beats after the engine has said that the session is gone.
func WithOverrun(f func(lease string)) Option {
	return option("WithOverrun", "func", func(c *config) string {
		c.overrun = f
		return reasonUnless(f != nil, "must not be nil")
	})
}

// WithLogger sets where the engine logs that a session was lost, that one of another replica was removed, and that a body still executes
// though its lease was lost. The default is [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return option("WithLogger", "logger", func(c *config) string {
		c.logger = l
		return reasonUnless(l != nil, "must not be nil")
	})
}

func option(name string, value any, set func(*config) string) Option {
	return optionFunc(func(c *config) error {
		if reason := set(c); reason != "" {
			return &taskmanager.OptionError{Option: name, Value: value, Reason: reason}
		}
		return nil
	})
}

const defaultTTL = 15 * time.Second

func newConfig(opts []Option) (config, error) {
	c := config{ttl: defaultTTL, drift: 0.05}
	for i, o := range opts {
		if o == nil {
			return c, &taskmanager.OptionError{Option: fmt.Sprintf("opts[%d]", i), Reason: "must not be nil"}
		}
		if err := o.apply(&c); err != nil {
			return c, err
		}
	}
	if c.replica == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, &taskmanager.OptionError{Option: "WithReplica", Value: "", Reason: "is needed: " + err.Error()}
		}
		c.replica = host
	}
	culprit := taskmanager.OptionError{Option: "WithDrift", Value: c.drift, Reason: "is too large"}
	switch {
	case c.ttl != defaultTTL:
		culprit = taskmanager.OptionError{Option: "WithTTL", Value: c.ttl, Reason: "is too short"}
	case c.beat != 0:
		culprit = taskmanager.OptionError{Option: "WithBeat", Value: c.beat, Reason: "is too long"}
	}
	if c.beat == 0 {
		c.beat = max(c.ttl/5, 1)
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	c.lines = &logHandler{Handler: c.logger.Handler()}
	c.logger = slog.New(c.lines)
	if c.span() < 2*c.beat {
		culprit.Reason += fmt.Sprintf(": a beat is trusted for %v, which is less than two beats of %v", c.span(), c.beat)
		return c, &culprit
	}
	return c, nil
}

func reasonUnless(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}
