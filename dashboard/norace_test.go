//go:build !race

package dashboard

const raceFactor = 1
