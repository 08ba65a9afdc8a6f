package main

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	pulseTick = 100 * time.Millisecond
	// A tick that comes later is not counted as kept. It is a tenth of the tick: a task that is kept
	// from running for longer is not healthy, even if it catches up.
	timely = 10 * time.Millisecond
)

// A pulse is the work of healthy tasks: they tick. Its methods may be called from any goroutine.
type pulse struct {
	ticks, timely atomic.Int64
	late          [len(histogram{}.buckets)]atomic.Uint64
}

// body ticks until ctx is done. Each tick has its time, and one that is late moves no other: what
// could not be done in time is done late, and not left out.
func (p *pulse) body(ctx context.Context) error {
	timer := time.NewTimer(pulseTick)
	defer timer.Stop()
	for due := time.Now().Add(pulseTick); ; timer.Reset(time.Until(due)) {
		select {
		case <-timer.C:
			p.tick(time.Since(due))
			due = due.Add(pulseTick)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *pulse) tick(late time.Duration) {
	p.ticks.Add(1)
	if late <= timely {
		p.timely.Add(1)
	}
	p.late[histogramBucket(late)].Add(1)
}

// A beat is what a pulse has counted until some moment, or between two of them.
type beat struct {
	ticks, timely int64
	late          histogram
}

// read returns what has been counted so far.
func (p *pulse) read() *beat {
	b := &beat{ticks: p.ticks.Load(), timely: p.timely.Load()}
	for i := range p.late {
		b.late.addTo(i, p.late[i].Load())
	}
	return b
}

// since returns what has been counted since an earlier beat.
func (p *pulse) since(earlier *beat) *beat {
	b := &beat{ticks: p.ticks.Load() - earlier.ticks, timely: p.timely.Load() - earlier.timely}
	for i := range p.late {
		b.late.addTo(i, p.late[i].Load()-earlier.late.buckets[i])
	}
	return b
}
