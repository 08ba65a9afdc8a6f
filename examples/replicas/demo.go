package main

import (
	"context"
	"errors"
	"time"
)

// demo does to the replicas what a person would, and returns an error if something does not follow that should. If ctx ends, it does, too.
func demo(ctx context.Context, f *fleet, b *board) error {
	d := &demonstration{ctx: ctx, fleet: f, board: b}
	first := d.holder(0)
	d.say("Replica %d runs digest. It is killed by kill -9: the others hear nothing of it for a TTL, and then one of them begins.", first)
	d.do("kill", first)

	second := d.holder(first)
	d.say("Replica %d runs digest now. It is frozen by SIGSTOP: to the others that is the same.", second)
	d.awaitWork()
	d.do("freeze", second)

	third := d.holder(second)
	d.say("Replica %d has taken over. Replica %d goes on, in the middle of what it did: its write is refused, and it waits.", third, second)
	d.do("resume", second)
	d.await("the replica that was frozen does not wait, or no write of it was refused", func() bool {
		return b.refused[second] > 0 && b.rows[second-1].tasks[digest].State == waits
	})
	d.holder(0)

	d.say("Replica %d is stopped, as by a deployment: its body returns, and the next one begins at once.", third)
	d.do("stop", third)
	d.holder(third)

	d.say("All are stopped.")
	f.quit()
	d.await("a write was refused of a replica that was not frozen", func() bool { return len(b.refused) == 1 })
	select {
	case <-ctx.Done():
		return nil
	default:
		return d.err
	}
}

// A demonstration does nothing any more after an error.
type demonstration struct {
	ctx   context.Context
	fleet *fleet
	board *board
	err   error
}

func (d *demonstration) say(format string, args ...any) {
	if d.err == nil {
		d.board.say("# "+format, args...)
	}
}

func (d *demonstration) do(verb string, n int) {
	if d.err == nil {
		d.err = d.fleet.do(command{verb, n})
	}
}

// await waits until reached, which is called with the lock of the board, reports true. What is waited for takes a TTL and two beats at
// most.
func (d *demonstration) await(failure string, reached func() bool) {
	if d.err != nil {
		return
	}
	limited, cancel := context.WithTimeoutCause(d.ctx, 3*ttl, errors.New(failure))
	defer cancel()
	d.err = d.board.await(limited, reached)
}

// holder waits until all is as it should be: one replica runs digest, another one than the last, and has written, and the others wait. It
// returns the number of that replica.
func (d *demonstration) holder(last int) (holder int) {
	b := d.board
	d.await("not every task runs on as many replicas as it should", func() bool {
		digests, alive := b.runningLocked(digest), b.aliveLocked()
		if len(digests) != 1 || digests[0] == last {
			return false
		}
		holder = digests[0]
		return b.written[digest] == b.rows[holder-1].tasks[digest].Token && len(b.waitingLocked(digest)) == alive-1 &&
			len(b.runningLocked(poller)) == min(alive, 2) && b.tenantsLocked() == allTenants
	})
	return holder
}

// awaitWork waits until the body of digest is in the middle of its work: what is frozen there has a write to send when it goes on.
func (d *demonstration) awaitWork() {
	d.board.mu.Lock()
	taken := d.board.taken[digest]
	d.board.mu.Unlock()
	d.await("nothing is written", func() bool { return d.board.taken[digest] > taken })
	if d.err == nil {
		time.Sleep(work / 2)
	}
}
