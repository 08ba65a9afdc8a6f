package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// What is to be done when a context ends is done then, and not after it has been called off; and nothing is left, also of a context
// that never ends.
func TestForeignContextIsWaitedFor(t *testing.T) {
	foreign := func(done chan struct{}) context.Context { return lastingContext{context.Background(), done} }
	standard := func(done chan struct{}) context.Context {
		if done == nil {
			return context.Background()
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			<-done
			cancel()
		}()
		return ctx
	}
	for name, of := range map[string]func(done chan struct{}) context.Context{"foreign": foreign, "standard": standard} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended, calledOff := make(chan struct{}), make(chan struct{})
				n := 0
				first := whenDone(of(ended), func() { n++ })
				close(ended)
				synctest.Wait()
				assert.Equal(t, 1, n)
				first()
				second := whenDone(of(calledOff), func() { n++ })
				second()
				second()
				close(calledOff)
				synctest.Wait()
				assert.Equal(t, 1, n)
				whenDone(of(nil), func() { n++ }) // and its goroutine would be missed by the bubble
			})
		})
	}
}
