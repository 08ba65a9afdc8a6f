//go:build race

package dashboard

// raceFactor is by how much slower the race detector makes what is measured, at most.
const raceFactor = 20
