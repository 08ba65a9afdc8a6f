package taskmanager

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	progressInterval = 5 * time.Second // between two lines about a stop that waits
	progressNames    = 5               // in such a line
)

// A stopProgress says in the log, every five seconds, whom a stop waits for. It has a timer for that and no goroutine: what it
// has to say, the bus's own writes.
type stopProgress struct {
	manager *Manager
	request request
	began   time.Time
	stops   []*stopOp   // of tasks that are asked at once
	nodes   []*stopNode // of those that are asked one after the other

	mu    sync.Mutex  // held while a line is left to the bus, so that none comes after the stop
	timer *time.Timer // nil when the stop is over
}

// beginProgress is called when the tasks of a stop have been asked. It returns nil, whose end does nothing, if the stop will be over
// before there is anything to say.
func (m *Manager) beginProgress(q request, began time.Time, stops []*stopOp, nodes []*stopNode) *stopProgress {
	takesLong := slices.ContainsFunc(stops, func(s *stopOp) bool { return s.timeout > progressInterval && s.remaining.Load() > 0 })
	if !takesLong && len(nodes) == 0 {
		return nil
	}
	p := &stopProgress{manager: m, request: q, began: began, stops: stops, nodes: nodes}
	if p.isOfAll() {
		m.mu.Lock()
		m.stopsOfAll = append(m.stopsOfAll, p)
		m.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(progressInterval-time.Since(began), p.report)
	return p
}

// end is called when nobody waits for the stop any more.
func (p *stopProgress) end() {
	if p == nil {
		return
	}
	if m := p.manager; p.isOfAll() {
		m.mu.Lock()
		m.stopsOfAll = slices.DeleteFunc(m.stopsOfAll, func(other *stopProgress) bool { return other == p })
		m.mu.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	p.timer = nil
}

// isOfAll reports whether all tasks of the Manager are to stop.
func (p *stopProgress) isOfAll() bool { return p.request >= stopAllRequest }

// report is called by the timer.
func (p *stopProgress) report() {
	var w awaited
	if p.speaks() {
		w = p.awaited()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		return
	}
	now := time.Now()
	if w.count > 0 {
		attrs := []slog.Attr{
			slog.Duration("waited", now.Sub(p.began).Round(time.Second)),
			slog.Duration("left", w.deadline.Sub(now).Round(100*time.Millisecond)),
			slog.String("tasks", w.String()),
		}
		if w.later > 0 {
			attrs = append(attrs, slog.Int("not_asked_yet", w.later))
		}
		p.manager.bus.logAtLevelLater(slog.LevelInfo, "still waiting for tasks to stop", attrs...)
	}
	p.timer.Reset(progressInterval)
}

// speaks reports whether p is to say something: of several stops of all tasks one is, a Shutdown if there is one, and the end of the
// parent context if there is nothing else, for nobody waits for that. A group whose run is asked to stop leaves it to whoever asks.
func (p *stopProgress) speaks() bool {
	m := p.manager
	if m.config.groupTask != nil && m.parent.isDone() {
		return false
	}
	if !p.isOfAll() {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rank := map[request]int{stopAllRequest: 1, shutdownRequest: 2}
	return len(m.stopsOfAll) > 0 && p == slices.MaxFunc(m.stopsOfAll, func(a, b *stopProgress) int {
		return cmp.Compare(rank[a.request], rank[b.request])
	})
}

// awaited looks at whom the stop waits for.
func (p *stopProgress) awaited() awaited {
	var (
		w   awaited
		now = time.Now()
	)
	for _, s := range p.stops {
		w.look(s, now)
	}
	for _, n := range p.nodes {
		switch s := n.stop.Load(); {
		case n.detached:
		case s == nil:
			w.later++
		default:
			w.look(s, now)
		}
	}
	return w
}

// An awaited is whom a stop waits for.
type awaited struct {
	nameList
	later    int       // tasks whose turn to be asked has not come
	deadline time.Time // the latest of theirs
}

// look adds those that s waits for. At its deadline it does not any more.
func (w *awaited) look(s *stopOp, now time.Time) {
	if s.remaining.Load() == 0 || !s.deadline.After(now) {
		return
	}
	for _, t := range s.tasks {
		t.mu.Lock()
		waits, group := t.hasWaiterLocked(s), t.groupLocked()
		t.mu.Unlock()
		if !waits {
			continue
		}
		if s.deadline.After(w.deadline) {
			w.deadline = s.deadline
		}
		if before := w.count; group != nil {
			w.lookInto(group)
			if w.count > before {
				continue
			}
		}
		w.add(t.path(), progressNames)
	}
}

// lookInto adds those tasks of a group that are stopping. There are none while it starts, or if all of them are yet to be asked.
func (w *awaited) lookInto(m *Manager) {
	for t := range m.Tasks() {
		if s := t.State(); s != StateStopping && s != StateStuck {
			continue
		}
		before := w.count
		if group := t.Group(); group != nil {
			w.lookInto(group)
		}
		if w.count == before {
			w.add(t.path(), progressNames)
		}
	}
}
