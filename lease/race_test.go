//go:build race

package lease_test

// seeds is how many random runs there are. The race detector makes them ten times as slow.
const seeds = 150
