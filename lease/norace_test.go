//go:build !race

package lease_test

const seeds = 1000
