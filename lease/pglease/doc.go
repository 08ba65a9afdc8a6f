// Package pglease makes leases with PostgreSQL: it is an engine of module lease that keeps its sessions and leases in two tables of a
// database. [Engine.Fence] makes what a task writes to the same database atomic with its holding the lease.
//
// # Usage
//
//	err := pglease.Migrate(ctx, url) // at each start, of each replica
//	engine, err := pglease.New(pglease.Config{ConnString: url}, "billing")
//	_, err = manager.StartTask("digest", sendDigests, taskmanager.WithLease(engine.Lease("digest")))
//
// Who runs migrations by a tool of their own takes [Schema] instead of [Migrate].
//
// # Tables
//
// tm_session has a row for each replica, which updates it at each beat; tm_lease has one for each lease, which is written when it changes
// hands, and never deleted. The removal of a session frees its leases by a foreign key, in the same transaction. A third table,
// tm_schema, has the version of the two. All are found by the search_path of the connection, and made in its first schema.
//
//	SELECT l.key, s.name, l.token, l.since FROM tm_lease l JOIN tm_session s ON s.id = l.session WHERE l.pool = 'billing';
//
// shows who has what. No time in a table decides anything. A replica can be told that it has lost its leases by deletion of its session,
// but others may have them before it has heard of that. Who deletes rows of tm_lease lets tokens begin at 1 again.
//
// # Server
//
// The URL must lead to the server that takes writes: with several hosts, add target_session_attrs=read-write. Each statement is a
// transaction of its own, and none is prepared by name, so it may lead through a pooler such as PgBouncer in transaction mode. LISTEN
// doesn't work through that: without it, a replica hears at its next beat that a lease is free. [Config].Listen gives a direct one for it.
//
// A claim is written to disk before it counts, even if synchronous_commit is off. The promotion of a standby that is not synchronous
// may forget claims of the last moments: then two replicas can hold a lease, and a token can come twice.
//
// # Load
//
// A replica has up to two connections of its own, and one that listens, while it wants or has a lease. It sends one statement at each
// beat, whatever the number of leases, and one more while it waits for some.
package pglease
