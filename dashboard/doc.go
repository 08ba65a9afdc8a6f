// Package dashboard serves pages about the tasks of a Manager: which are in trouble, since when and why, what each is doing right now, and
// where its goroutines are.
package dashboard
