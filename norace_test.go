//go:build !race

package taskmanager_test

// underRace says that the race detector is on. It breaks down under some 8,000 goroutines at once.
const underRace = false
