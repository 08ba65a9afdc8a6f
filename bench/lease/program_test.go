package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestProgram does each work in its short form, on each server that there is.
func TestProgram(t *testing.T) {
	t.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")) // else each child sleeps for a second at its end
	for _, c := range []struct {
		server server
		works  int
		test   func(t *testing.T, r *results)
	}{
		{postgres, 5, func(t *testing.T, r *results) {
			t.Helper()
			for _, key := range []string{"start claims", "join claims", "leave claims", "death claims"} {
				assert.Positive(t, value(t, r, "spread/4x500", onPostgres, key), key)
			}
			assert.GreaterOrEqual(t, value(t, r, "spread/4x500", onPostgres, "start claims"), 500.)
			assert.GreaterOrEqual(t, value(t, r, "spread/4x500", onPostgres, "share"), 1.)
			assert.Greater(t, value(t, r, "spread/4x500", onPostgres, "death settled"), float64(quickTTL)/2)
			assert.Less(t, value(t, r, "spread/4x500", onPostgres, "steady"), 500., "it does not ask for each name")
			assert.Positive(t, value(t, r, "stopped/3s", riverElected, "stop"))
			assert.Positive(t, value(t, r, "stopped/3s", riverJob, "stop"))
		}},
		{kubernetes, 4, func(t *testing.T, r *results) {
			t.Helper()
			assert.Positive(t, value(t, r, "slowly/3s", clientGoRelease, "both"))
			assert.Zero(t, value(t, r, "slowly/3s", clientGo, "both"))
			assert.Zero(t, value(t, r, "slowly/3s", clientGoAfter, "both"))
			assert.Greater(t, value(t, r, "stopped/3s", clientGo, "nobody"), float64(quickTTL)/2, "it waits until the lease expires")
			assert.Greater(t, value(t, r, "killed/3s", clientGo, "killed"), float64(quickTTL)/2)
			theirs := value(t, r, "steady/3x20", clientGo, "all")
			assert.Greater(t, theirs, 20/0.4, "a renewal for each lease each 400 ms")
			assert.Less(t, value(t, r, "steady/3x20", onKubernetes, "all"), theirs)
		}},
		{natsServer, 4, func(*testing.T, *results) {}},
	} {
		t.Run(c.server.String(), func(t *testing.T) {
			t.Parallel()
			s, err := parse([]string{"-quick"}, io.Discard)
			require.NoError(t, err)
			r, err := measureAll(t.Context(), t, s.at(c.server), io.Discard)
			require.NoError(t, err)
			require.Len(t, r.works, c.works)
			for _, w := range r.works {
				for _, one := range w.sides {
					if one.server != c.server {
						continue
					}
					for _, m := range w.measures {
						if m.key != "writes" || c.server == kubernetes {
							value(t, r, w.name, one, m.key)
						}
					}
					if one.ours && w.name == "slowly/3s" {
						assert.Zero(t, value(t, r, w.name, one, "both"), one.name)
						assert.GreaterOrEqual(t, value(t, r, w.name, one, "stop"), float64(quickTTL)*3/10, one.name)
					}
				}
			}
			c.test(t, r)
			text := r.markdown()
			assert.Contains(t, text, c.server.String())
			assert.Contains(t, text, "\n| slowly/3s | "+c.server.String()+" | two work at once | 0 | 0 | met |\n")
		})
	}
}

// at has only those sides do something that need the server.
func (s settings) at(what server) settings {
	var names []string
	for _, one := range sides {
		if one.server == what {
			names = append(names, "/"+one.name+"$")
		}
	}
	s.Only = regexpOf(names)
	return s
}

// value returns that of the one round.
func value(t *testing.T, r *results, work string, one side, key string) float64 {
	t.Helper()
	all := r.Of(work, one.name, key)
	require.Len(t, all, 1, "%s of %s/%s", key, work, one.name)
	return all[0]
}

func TestProgramRefusesBadArguments(t *testing.T) {
	for _, args := range []string{"extra", "-rounds -1", "-only (", "-skip (", "-quick -only nothing", "-quick -skip .", "-unknown"} {
		assert.Error(t, program(t.Context(), t, strings.Fields(args), io.Discard, io.Discard), args)
	}
	assert.ErrorIs(t, program(t.Context(), t, []string{"-h"}, io.Discard, io.Discard), flag.ErrHelp)
	assert.ErrorIs(t, program(t.Context(), t, []string{"-only", "x", "-skip", "x"}, io.Discard, io.Discard), errNothingMatches)
}

func TestSettingsByDefault(t *testing.T) {
	s, err := parse(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 5, s.rounds)
	assert.Equal(t, ".", s.out, "this test runs in the program's own directory")
	assert.Equal(t, "go run ./bench/lease", s.command)
	s, err = parse([]string{"-quick", "-o", "x"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 1, s.rounds)
	assert.Equal(t, "x", s.out)
	assert.Equal(t, "go run ./bench/lease -quick", s.command)
	for _, args := range []string{"-quick", "-only killed", "-skip killed"} {
		s, err = parse(strings.Fields(args), io.Discard)
		require.NoError(t, err)
		assert.Empty(t, s.out, args)
	}
	t.Chdir(t.TempDir())
	_, err = parse(nil, io.Discard)
	assert.Error(t, err, "there is no such directory")
}

func TestOrdersThatCannotBeCarriedOut(t *testing.T) {
	for order, want := range map[string]string{"{": "unexpected end of JSON input", `{"Side": "nobody"}`: `there is no side "nobody"`} {
		t.Setenv(orderVariable, order)
		obeyed, err := obey(io.Discard)
		assert.True(t, obeyed)
		assert.ErrorContains(t, err, want)
	}
}

// A process that ends by itself is not waited for.
func TestGroupSaysWhyAProcessEnded(t *testing.T) {
	_, err := startGroup(t.Context(), order{Side: "nobody", TTL: time.Second}, 2)
	assert.ErrorContains(t, err, `ended: exit status 1`)
	assert.ErrorContains(t, err, `there is no side "nobody"`)
}

func TestHostEndsWhatItHasStarted(t *testing.T) {
	var out bytes.Buffer
	dir := ""
	err := host(t.Context(), func(t testing.TB) error {
		dir = t.TempDir()
		t.Cleanup(func() { out.WriteString("first ") })
		t.Cleanup(func() {
			out.WriteString("last ")
			assert.Error(t, t.Context().Err())
		})
		assert.NoError(t, t.Context().Err())
		return io.EOF
	})
	assert.ErrorIs(t, err, io.EOF)
	assert.Equal(t, "last first ", out.String())
	assert.NoDirExists(t, dir)
}

func TestHostReturnsWhatFails(t *testing.T) {
	cleaned := false
	err := host(t.Context(), func(t testing.TB) error {
		t.Cleanup(func() { cleaned = true })
		require.NoError(t, io.ErrNoProgress)
		return nil
	})
	assert.ErrorContains(t, err, io.ErrNoProgress.Error())
	assert.True(t, cleaned)
	err = host(t.Context(), func(t testing.TB) error {
		t.Skip("no server: buy one")
		return nil
	})
	assert.EqualError(t, err, "no server: buy one")
	assert.NoError(t, host(context.Background(), func(testing.TB) error { return nil }))
}

func TestProgramWrites(t *testing.T) {
	dir := t.TempDir()
	r := sampleResults(t)
	var out bytes.Buffer
	require.NoError(t, write(dir, r, &out))
	file := filepath.Join(dir, "RESULTS.md")
	assert.Equal(t, "wrote "+file+"\n", out.String())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, r.markdown(), string(text))
}
