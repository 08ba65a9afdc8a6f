package taskmanager

import (
	"context"
	"slices"
	"sync"
	"weak"
)

const (
	subscriberBuffer = 256 // events that wait for a subscriber before the oldest are lost
	eventsDropped    = 32  // of them, when there is no room
)

// A subscriber is one call of Subscribe.
type subscriber struct {
	mu     sync.Mutex // makes publishers take turns; nothing blocks while it is held
	events chan Event
	spare  []Event // for makeRoomLocked
	closed bool    // events is; set once
	unbind func()  // ends the wait for the end of the subscriber's context; nil without one
}

// subscribe returns a channel of all events from now on, which is closed when ctx is done, and when
// closeSubscribers is called. A nil ctx is never done.
func (b *eventBus) subscribe(ctx context.Context) <-chan Event {
	s := &subscriber{events: make(chan Event, subscriberBuffer)}
	if ctx == nil {
		b.addSubscriber(s)
		return s.events
	}
	// ctx may last for longer than anybody needs the bus, and with it the Manager.
	bus := weak.Make(b)
	unbind := whenDone(ctx, func() {
		s.close()
		if still := bus.Value(); still != nil {
			still.removeSubscriber(s)
		}
	})
	b.addSubscriber(s)
	if closed := s.bind(unbind); closed {
		b.removeSubscriber(s) // ctx may have ended before it was added
	}
	return s.events
}

// closeSubscribers ends all subscriptions, and those that are still to come: it is for a Manager
// whose life is over, so that nobody waits for an event that can't come.
func (b *eventBus) closeSubscribers() {
	b.mu.Lock()
	b.closed = true
	subscribers := b.subscriberList()
	b.subscribers.Store(nil)
	b.mu.Unlock()
	for _, s := range subscribers {
		if unbind := s.close(); unbind != nil {
			unbind()
		}
	}
}

func (b *eventBus) addSubscriber(s *subscriber) {
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.setSubscribersLocked(append(slices.Clone(b.subscriberList()), s))
	}
	b.mu.Unlock()
	if closed {
		s.close()
	}
}

func (b *eventBus) removeSubscriber(s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setSubscribersLocked(slices.DeleteFunc(slices.Clone(b.subscriberList()), func(other *subscriber) bool { return other == s }))
}

// subscriberList returns a list that never changes: it may be read without a lock.
func (b *eventBus) subscriberList() []*subscriber {
	if p := b.subscribers.Load(); p != nil {
		return *p
	}
	return nil
}

func (b *eventBus) setSubscribersLocked(s []*subscriber) {
	if len(s) == 0 {
		b.subscribers.Store(nil)
		return
	}
	b.subscribers.Store(&s)
}

// publish puts e into the channel, in which the oldest events make room for it.
func (s *subscriber) publish(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	select {
	case s.events <- e:
	default:
		s.makeRoomLocked()
		s.events <- e // only publishers add, so there is room
	}
}

// makeRoomLocked drops the oldest events, some at a time, for all others have to be moved: the one that comes after the gap says
// how many are missing.
func (s *subscriber) makeRoomLocked() {
	s.spare = s.spare[:0]
	for len(s.events) > 0 {
		select {
		case e := <-s.events:
			s.spare = append(s.spare, e)
		default: // the subscriber was faster
		}
	}
	waiting := s.spare
	if len(waiting) == cap(s.events) {
		missed := 0
		for _, e := range waiting[:eventsDropped] {
			missed += 1 + e.Missed
		}
		waiting = waiting[eventsDropped:]
		waiting[0].Missed += missed
	}
	for _, e := range waiting {
		s.events <- e
	}
	clear(s.spare) // it holds errors
}

// bind hands over what ends the wait for the end of the subscriber's context. It returns whether the channel has been closed.
func (s *subscriber) bind(unbind func()) (closed bool) {
	s.mu.Lock()
	closed = s.closed
	s.unbind = unbind
	s.mu.Unlock()
	if closed {
		unbind()
	}
	return closed
}

// close closes the channel, unless that has been done. It returns what is to be called if it is not
// the end of the subscriber's context that has led here.
func (s *subscriber) close() (unbind func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.events)
	}
	return s.unbind
}
