package parallel_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/internal/parallel"
)

// So that many names don't wait for one another: as many calls at once as are allowed.
func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, made atomic.Int32
		var most sync.Map // the numbers of calls at once
		begun := time.Now()
		require.NoError(t, parallel.Each(640, 64, func(int) error {
			most.Store(now.Add(1), true)
			time.Sleep(time.Second) // a round trip
			now.Add(-1)
			made.Add(1)
			return nil
		}))
		assert.Equal(t, int32(640), made.Load())
		assert.Equal(t, 10*time.Second, time.Since(begun))
		_, all := most.Load(int32(64))
		assert.True(t, all)
		_, tooMany := most.Load(int32(65))
		assert.False(t, tooMany)

		failure := errors.New("of one")
		assert.Equal(t, failure, parallel.Each(100, 64, func(i int) error {
			if i == 70 {
				return failure
			}
			return nil
		}))
		require.NoError(t, parallel.Each(0, 64, nil))
	})
}
