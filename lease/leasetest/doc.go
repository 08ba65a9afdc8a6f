// Package leasetest helps to test what is made of package lease: [NewServer] is an engine in memory, with the faults that real ones have,
// and [RunStore] is what a [lease.Store] must pass.
package leasetest
