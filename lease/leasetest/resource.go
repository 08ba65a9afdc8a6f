package leasetest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FileWriter returns a Writer to the end of a file, which several processes may write to, and which refuses nothing.
func FileWriter(path string) Writer {
	return func(_ context.Context, w Write) error {
		w.At = time.Now()
		text, err := json.Marshal(w)
		if err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		_, err = file.Write(append(text, '\n'))
		return err
	}
}

// FileWrites returns what was written by a [FileWriter] so far, in that order.
func FileWrites(t *testing.T, path string) []Write {
	t.Helper()
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	var all []Write
	for line := range bytes.Lines(text) {
		var w Write
		require.NoError(t, json.Unmarshal(line, &w))
		all = append(all, w)
	}
	return all
}
