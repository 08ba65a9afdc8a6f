package main

import (
	"context"
	"errors"
	"sync"

	"github.com/oklog/run"
	"github.com/sourcegraph/conc"
	"golang.org/x/sync/errgroup"
	"gopkg.in/tomb.v2"
)

// Here are those sides that start and wait, and do not supervise. Their tasks share one context,
// which costs least.

type bare struct {
	all    sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func newBare() group {
	b := &bare{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *bare) start(_ string, body body) error {
	b.all.Go(func() { _ = body(b.ctx) })
	return nil
}

func (b *bare) begin() {}

func (b *bare) stopAll() error {
	b.cancel()
	b.all.Wait()
	return nil
}

type errGroup struct {
	all    *errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
}

func newErrgroup() group {
	ctx, cancel := context.WithCancel(context.Background())
	all, ctx := errgroup.WithContext(ctx)
	return &errGroup{all, ctx, cancel}
}

func (g *errGroup) start(_ string, body body) error {
	g.all.Go(func() error { return body(g.ctx) })
	return nil
}

func (g *errGroup) begin() {}

func (g *errGroup) stopAll() error {
	g.cancel()
	return unlessCanceled(g.all.Wait())
}

type oklogGroup struct {
	all       run.Group
	ctx       context.Context
	cancel    context.CancelFunc
	interrupt func(error)
	done      chan error
}

func newOklog() group {
	g := &oklogGroup{done: make(chan error, 1)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.interrupt = func(error) { g.cancel() }
	return g
}

func (g *oklogGroup) start(_ string, body body) error {
	g.all.Add(func() error { return body(g.ctx) }, g.interrupt)
	return nil
}

func (g *oklogGroup) begin() { go func() { g.done <- g.all.Run() }() }

func (g *oklogGroup) stopAll() error {
	g.cancel()
	return unlessCanceled(<-g.done)
}

type concGroup struct {
	all    conc.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
}

func newConc() group {
	g := &concGroup{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

func (g *concGroup) start(_ string, body body) error {
	g.all.Go(func() { _ = body(g.ctx) })
	return nil
}

func (g *concGroup) begin() {}

func (g *concGroup) stopAll() error {
	g.cancel()
	g.all.Wait()
	return nil
}

type tombGroup struct {
	all  *tomb.Tomb
	ctx  context.Context
	used bool
}

func newTomb() group {
	g := &tombGroup{}
	g.all, g.ctx = tomb.WithContext(context.Background())
	return g
}

func (g *tombGroup) start(_ string, body body) error {
	g.used = true
	g.all.Go(func() error { return body(g.ctx) })
	return nil
}

// begin keeps a tomb that has no task yet from dying with its first one.
func (g *tombGroup) begin() {
	if !g.used {
		g.all.Go(func() error {
			<-g.all.Dying()
			return nil
		})
	}
}

func (g *tombGroup) stopAll() error {
	g.all.Kill(nil)
	return unlessCanceled(g.all.Wait())
}

// unlessCanceled returns err unless it is what a body returns that was asked to stop.
func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
