// Package lease hands out leases: the right to run a task, which one of several replicas has at a time. What it needs from an engine, such
// as a database, is a [Store]; the modules beside it have some. [Engine.Lease] is held by one replica, [Engine.OneOf] by several, and a
// [Spread] runs many tasks, each on one of the replicas.
//
// # What is guaranteed
//
// No two bodies of tasks with the same lease execute at the same time in two replicas, if
//
//   - over a TTL, the monotonic clocks of two replicas differ by less than the factor (1+rho)/(1-rho): see [WithDrift];
//   - the engine does not forget what it has confirmed, and its compare-and-set is atomic;
//   - no process is frozen between its last look at the clock and its next instruction;
//   - a body returns within its stop timeout once its context has ended.
//
// Wall clocks don't matter, neither that of a replica nor that of the engine. A replica is judged dead if another one has seen the same beat
// of it for a whole TTL, in which that could look without a pause of more than two beats, and is removed only if its beat is still that.
// Its own trust in a beat begins before the beat is sent, and is shorter: TTL*(1-rho)/(1+rho). So it has stopped before others begin.
//
// # What can't be had
//
// A process that was frozen, and goes on, finishes the write that it had begun, though another replica works by then: only what is written
// to can refuse that, by the token. A body that ignores the end of its context goes on beside that of another replica: see [WithOverrun].
// An engine that loses confirmed writes, such as an asynchronous standby that was promoted, can give a lease to two, and a token twice.
package lease
