package taskmanager

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// RunUntilSignal is [Manager.Run] until the process receives one of signals: by default [os.Interrupt], which is Ctrl-C, or
// SIGTERM, by which Kubernetes, systemd and docker ask for the end. It is what a main function ends with:
//
//	if err := m.RunUntilSignal(); err != nil {
//		log.Fatal(err) // a task is stuck, or a critical one is gone
//	}
//
// The first signal begins the shutdown, and the log says so. From then on these signals have the effect that they had before:
// if nobody else in the program has asked for them, a second one ends the process at once, whatever still runs. A signal that
// arrives while the Manager is being shut down for another reason is a first one.
//
// The error is that of Run: nil if all tasks have stopped, though a signal was the reason. A signal that is nil, or [os.Kill],
// which no process receives, is refused with an [*OptionError].
func (m *Manager) RunUntilSignal(signals ...os.Signal) error {
	if !m.isMade() {
		return errNotMade
	}
	if len(signals) == 0 {
		signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	for i, s := range signals {
		reason := reasonUnless(s != nil, "must not be nil")
		if s == os.Kill {
			reason = "can't be received"
		}
		if reason != "" {
			return &OptionError{Option: fmt.Sprintf("signals[%d]", i), Value: s, Reason: reason}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	received := make(chan os.Signal, 1)
	signal.Notify(received, signals...)
	defer signal.Stop(received)
	go m.awaitSignal(ctx, cancel, received)
	return m.Run(ctx)
}

// awaitSignal ends Run, whose context ctx is, when a signal has been received. It returns at the latest when Run has.
func (m *Manager) awaitSignal(ctx context.Context, cancel context.CancelFunc, received chan os.Signal) {
	select {
	case s := <-received:
		signal.Stop(received) // before anybody can know that the first one has arrived
		m.bus.logFirst(slog.LevelInfo, "received signal, shutting down", slog.String("signal", s.String()))
		cancel()
	case <-ctx.Done():
	}
}
