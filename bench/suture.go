package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/thejerf/suture/v4"
)

// A sutureGroup is one supervisor whose threshold is never passed, for beyond it every restart
// waits. Services that are added before it serves start fastest.
type sutureGroup struct {
	supervisor *suture.Supervisor
	cancel     context.CancelFunc
	served     <-chan error
}

func newSuture() group {
	return &sutureGroup{supervisor: suture.New("bench", suture.Spec{
		EventHook:        func(suture.Event) {},
		FailureThreshold: math.Inf(1),
		Timeout:          patience,
	})}
}

// A sutureService has a String method: without one, suture formats the whole value.
type sutureService struct {
	name string
	body body
}

// Serve implements suture.Service.
func (s *sutureService) Serve(ctx context.Context) error {
	if err := s.body(ctx); err != nil {
		return err
	}
	return suture.ErrDoNotRestart
}

func (s *sutureService) String() string { return s.name }

func (g *sutureGroup) start(name string, body body) error {
	_, err := g.add(name, body)
	return err
}

func (g *sutureGroup) add(name string, body body) (suture.ServiceToken, error) {
	token := g.supervisor.Add(&sutureService{name, body})
	if token == (suture.ServiceToken{}) {
		return token, errors.New("the supervisor has stopped")
	}
	return token, nil
}

func (g *sutureGroup) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.served = g.supervisor.ServeBackground(ctx)
}

func (g *sutureGroup) stopAll() error {
	g.cancel()
	if err := <-g.served; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("serve: %w", err)
	}
	report, err := g.supervisor.UnstoppedServiceReport()
	if err == nil && len(report) > 0 {
		err = fmt.Errorf("%d services have not stopped", len(report))
	}
	return err
}

func (g *sutureGroup) startOne(name string, body body) (stop func() error, err error) {
	token, err := g.add(name, body)
	return func() error { return g.supervisor.RemoveAndWait(token, patience) }, err
}
