package kubelease

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTokenIsReadAgainAfterAMinute(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	synctest.Test(t, func(t *testing.T) {
		tokens := &tokens{file: file}
		get := func() string {
			token, err := tokens.get(false)
			require.NoError(t, err)
			return token
		}
		_, err := tokens.get(false)
		require.ErrorContains(t, err, "kubelease: token: open")
		write(" \n")
		_, err = tokens.get(false)
		require.ErrorContains(t, err, "is empty")
		write("first")
		assert.Equal(t, "first", get())
		write("second")
		time.Sleep(time.Minute - time.Nanosecond)
		assert.Equal(t, "first", get())
		time.Sleep(time.Nanosecond)
		assert.Equal(t, "second", get())
	})
}
