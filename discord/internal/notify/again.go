package notify

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// If no answer comes to a message, nobody knows whether it was taken. Its events come back, and by
// then with others, or merged with later ones. They must not be told twice: the message goes out once
// more as it was, by which Discord knows one that has a nonce, and of the events that come back it is
// left out what that message has told. Its like is the message of a webhook, which has no nonce: it may
// show twice, but not with other events.

// tellAgain delivers, before the given events, the message that may have been taken, if it is about
// some of them.
func (n *Notifier) tellAgain(ctx context.Context, events []taskmanager.Event) error {
	n.mu.Lock()
	m := n.unsure
	if m == nil || !sharesEvents(m.events, events) {
		n.mu.Unlock()
		return nil
	}
	n.unsure = nil // it is this call's
	n.mu.Unlock()
	err := n.deliver(ctx, m)
	switch {
	case err == nil:
		n.mu.Lock()
		n.told = m.events
		n.mu.Unlock()
	case errors.As(err, new(*refusal)): // nor was it taken before
		return nil
	}
	return err
}

// nothingNew is the kind of an event that has been told: none that is wanted.
const nothingNew taskmanager.EventKind = -1

// untold returns events without what has been told of them.
func (n *Notifier) untold(events []taskmanager.Event) []taskmanager.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.told) == 0 {
		return events
	}
	rest := make([]taskmanager.Event, len(events))
	for i, e := range events {
		for j := range n.told {
			if includes(&e, &n.told[j]) {
				e = without(e, &n.told[j])
				break
			}
		}
		rest[i] = e
	}
	return rest
}

// leadingTold is how many of the first events there is nothing left to tell of.
func leadingTold(events []taskmanager.Event) int {
	for i := range events {
		if events[i].Kind != nothingNew {
			return i
		}
	}
	return len(events)
}

// forget notes that events, as they came, won't come back.
func (n *Notifier) forget(events []taskmanager.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = slices.DeleteFunc(n.told, func(told taskmanager.Event) bool {
		return sharesEvents([]taskmanager.Event{told}, events)
	})
}

// sharesEvents reports whether some of events include what some of told tell.
func sharesEvents(told, events []taskmanager.Event) bool {
	for i := range events {
		for j := range told {
			if includes(&events[i], &told[j]) {
				return true
			}
		}
	}
	return false
}

// includes reports whether e is what told was, or what later events have been merged with into one.
func includes(e, told *taskmanager.Event) bool {
	if e.Manager != told.Manager || e.Task != told.Task || e.Kind != told.Kind || stands(e) < stands(told) {
		return false
	}
	if e.Task == "" { // of those, there may be several that began at the same time
		return e.Time.Equal(told.Time) && stands(e) == stands(told) && e.TaskCount == told.TaskCount
	}
	return firstTime(e).Equal(firstTime(told))
}

// without returns what there is to tell of e, which includes what was told.
func without(e taskmanager.Event, told *taskmanager.Event) taskmanager.Event {
	left := stands(&e) - stands(told)
	if left == 0 {
		e.Kind = nothingNew
		return e
	}
	e.Repeats, e.Since = int(left-1), time.Time{}
	if e.Repeats > 0 {
		e.Since = told.Time
	}
	return e
}

// firstTime is when the first of the events happened that e stands for.
func firstTime(e *taskmanager.Event) time.Time {
	if e.Repeats > 0 {
		return e.Since
	}
	return e.Time
}
