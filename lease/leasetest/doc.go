// Package leasetest helps to test what is made of package lease: [NewServer] is an engine in memory, with the faults that real ones have;
// [RunStore] is what a [lease.Store] must pass; and [StartReplica] starts replicas on real servers, for [HandOver], [CutOff] and [Restart],
// in which an [Observer] waits for them.
package leasetest
