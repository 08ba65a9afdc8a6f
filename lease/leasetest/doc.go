// Package leasetest helps to test what is made of package lease: [NewServer] is an engine in memory, with the faults that real ones have;
// [RunStore] is what a [lease.Store] must pass. On real servers, [RunFaults] has replicas that are processes, which it stops, kills, freezes
// and cuts off; and [StartReplica] starts some in the process of the test, for [HandOver] and [CutOff].
package leasetest
