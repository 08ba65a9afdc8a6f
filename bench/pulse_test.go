package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPulseTicksAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.body(ctx) }()
		time.Sleep(10*pulseTick + pulseTick/2)
		b := p.read()
		assert.EqualValues(t, 10, b.ticks)
		assert.EqualValues(t, 10, b.timely)
		assert.Zero(t, b.late.percentile(99))
		time.Sleep(3 * pulseTick)
		assert.EqualValues(t, 3, p.since(b).ticks)
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestPulseTellsLateFromTimely(t *testing.T) {
	var p pulse
	p.tick(time.Second)
	before := p.read()
	for range 97 {
		p.tick(time.Millisecond)
	}
	p.tick(timely)
	p.tick(timely + 1)
	p.tick(50 * time.Millisecond)
	b := p.since(before)
	assert.EqualValues(t, 100, b.ticks)
	assert.EqualValues(t, 98, b.timely)
	assert.EqualValues(t, 100, b.late.n)
	for percent, want := range map[float64]time.Duration{97: time.Millisecond, 98: timely, 100: 50 * time.Millisecond} {
		got := b.late.percentile(percent)
		assert.GreaterOrEqual(t, got, want)
		assert.LessOrEqual(t, got, want+want/32)
	}
	assert.GreaterOrEqual(t, p.read().late.longest, time.Second)
}
