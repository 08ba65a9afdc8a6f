// Package natslease is an engine of leases on NATS JetStream, on a connection that the program has anyway.
//
// # Usage
//
//	engine, err := natslease.New(natslease.Config{Conn: nc}, "billing")
//
// makes the engine of one pool: the replicas that give the same name of a pool, on the same NATS account, share its leases. The bucket,
// a key-value bucket of JetStream named after the pool, is made when the first lease is wanted. New itself asks nobody.
//
// # What it rests on
//
// The engine never asks the server's clock, and no TTL of a bucket or message: who is dead is judged by the replicas. It needs that the
// stream keeps what it has confirmed. With one copy (the default of [Config]) all leases wait while that server is away; with three, in
// a cluster, one server may be. A server writes to its disk a while after it has confirmed, unless its configuration says
// "sync_interval: always": after a power cut of the server, or of most of the three at once, it may have forgotten the last moments, and
// two replicas may work at once until the deadline of the one that is forgotten; a token may come twice.
//
// # Keys
//
// The bucket may be looked at with `nats kv`. A session of a replica is the key POOL.s.ID, renewed at each beat. A lease is the key
// POOL.l.NAME, written only when it moves. In POOL and NAME, each byte that is neither a letter of ASCII, nor a digit, - or _ is = and two
// hexadecimal digits: a.b is a=2Eb. Don't delete a key of a lease: its token would begin anew.
package natslease
