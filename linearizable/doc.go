// Package linearizable holds a test: what a Manager says of one name to several goroutines at once can be
// explained as if their calls had been made one after the other. It is a module of its own for its checker,
// porcupine, which the library's users need not have.
package linearizable
