package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A body writes as soon as it begins, so that the resource knows its token, and is told what is refused. It reports its begin and its end.
func TestWriter(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var wrote []write
	resource := newResource(func(w write, _ error) { wrote = append(wrote, w) })
	url, stop, err := resource.serve()
	require.NoError(t, err)
	defer stop()
	var said bytes.Buffer
	r := &replica{assignment: assignment{Replica: 2, Resource: url}, out: json.NewEncoder(&said)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, r.writer(digest)(ctx))
	assert.Equal(t, []write{{digest, 0, 2}}, wrote)
	var reports []report
	for d := json.NewDecoder(&said); d.More(); {
		var one report
		require.NoError(t, d.Decode(&one))
		assert.WithinDuration(t, time.Now(), one.At, time.Minute)
		one.At = time.Time{}
		reports = append(reports, one)
	}
	assert.Equal(t, []report{{Task: digest, State: runs}, {Task: digest, State: returned, Status: "context canceled"}}, reports)

	require.NoError(t, resource.take(write{digest, 1, 1}))
	require.ErrorIs(t, r.writer(digest)(t.Context()), errRefused)
}

// What a replica is told comes in its environment, and nothing else is taken for that.
func TestAssigned(t *testing.T) {
	a := assignment{3, choice{inPostgres, "postgres://me:not-a-real-password@127.0.0.1:1/db"}, "http://127.0.0.1:2"}
	t.Setenv(assignmentVariable, a.environment()[len(assignmentVariable)+1:])
	got, ok := assigned()
	require.True(t, ok)
	assert.Equal(t, a, got)
	for _, other := range []string{"", "3", "{"} {
		t.Setenv(assignmentVariable, other)
		_, ok := assigned()
		assert.False(t, ok, other)
	}
}
