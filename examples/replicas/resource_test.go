package main

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A resource refuses a token that is smaller than the largest of that task, whoever has it, and takes any other.
func TestResourceRefusesASmallerToken(t *testing.T) {
	type told struct {
		write
		refused bool
	}
	var all []told
	r := newResource(func(w write, err error) { all = append(all, told{w, err != nil}) })
	require.NoError(t, r.take(write{"digest", 2, 1}))
	require.NoError(t, r.take(write{"digest", 2, 1}), "the same holder again")
	require.NoError(t, r.take(write{"tenant-01", 1, 1}), "another task has tokens of its own")
	require.NoError(t, r.take(write{"digest", 5, 2}))
	err := r.take(write{"digest", 2, 1})
	require.ErrorIs(t, err, errRefused)
	assert.EqualError(t, err, "the write was refused: it has token 2, and one with token 5 was seen")
	require.ErrorIs(t, r.take(write{"digest", 4, 3}), errRefused)
	require.NoError(t, r.take(write{"digest", 5, 2}), "what was refused changes nothing")
	assert.Equal(t, []told{
		{write{"digest", 2, 1}, false},
		{write{"digest", 2, 1}, false},
		{write{"tenant-01", 1, 1}, false},
		{write{"digest", 5, 2}, false},
		{write{"digest", 2, 1}, true},
		{write{"digest", 4, 3}, true},
		{write{"digest", 5, 2}, false},
	}, all)
}

// The same from another process, where a body is told by an error; one whose context has ended sends all the same what is on its way.
func TestResourceOverHTTP(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	refused := 0
	r := newResource(func(_ write, err error) {
		if err != nil {
			refused++
		}
	})
	url, stop, err := r.serve()
	require.NoError(t, err)
	defer stop()
	require.NoError(t, write{"digest", 2, 1}.send(t.Context(), url))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, write{"digest", 1, 2}.send(over, url), errRefused)
	assert.Equal(t, 1, refused)
	require.ErrorContains(t, write{"digest", 2, 1}.send(t.Context(), url+"/not-there"), "404")
	stop()
	require.Error(t, write{"digest", 2, 1}.send(t.Context(), url))
}
