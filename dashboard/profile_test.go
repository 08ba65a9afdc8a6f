package dashboard

import (
	"bytes"
	"runtime/pprof"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadableStack(t *testing.T) {
	profile := "2 @ 0x1 0x2\n# labels: {\"task\":\"a @ b\"}\n#\t0x1\tmain.(*w).poll+0x1e\t\t/src/w.go:12\n#\t0x2\tmain.f+0x+0x3\t/a b/f.go:3\n\n" +
		"1 @ 0x1\n# labels: {\"task\":\"a\"}\n#\t0x1\tmain.g+0x1\tg.go:1\n"
	assert.Equal(t, "2 goroutines:\nmain.(*w).poll\n\t/src/w.go:12\nmain.f+0x\n\t/a b/f.go:3\n\n1 goroutine:\nmain.g\n\tg.go:1\n", readableStack(profile))
	assert.Empty(t, readableStack(""))
	assert.Equal(t, "something else\n", readableStack("something else\n"))

	// Whatever the runtime writes today is read.
	var written bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&written, 1))
	read := readableStack(written.String())
	assert.Contains(t, read, "dashboard.TestReadableStack\n\t")
	assert.NotContains(t, read, "0x")
}
