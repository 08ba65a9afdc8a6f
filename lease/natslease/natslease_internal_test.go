package natslease

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestNewRefusesBadInput(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	for _, c := range []struct {
		what, pool, want string
		config           Config
	}{
		{what: "no connection", pool: "p", want: "the connection is nil"},
		{what: "no name", config: Config{Conn: nc}, want: "the pool has no name"},
		{what: "long name", config: Config{Conn: nc}, pool: strings.Repeat("p", 64), want: "64 bytes, of at most 63"},
		{what: "replicas", pool: "p", config: Config{Conn: nc, Replicas: 6}, want: "6 copies of a bucket"},
		{what: "bucket", pool: "p", config: Config{Conn: nc, Bucket: "a.b"}, want: `"a.b" is no name of a bucket`},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := New(c.config, c.pool)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := New(Config{Conn: nc}, "")
	require.Error(t, err)
	_, err = New(Config{Conn: nc}, strings.Repeat("ü", 31)+"p")
	require.NoError(t, err)
}

// Each name of a pool is another bucket, and none is refused by the server.
func TestPoolsOfOddNames(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	buckets := map[string]bool{}
	for _, pool := range []string{"a-b", "a_b", "a.b", "a b", "a_2Db", "*", ">", "租户", strings.Repeat("ü", 31) + "u"} {
		s := newTestStore(t, nc, pool)
		require.False(t, buckets[s.bucket], s.bucket)
		buckets[s.bucket] = true
		assert.Equal(t, uint64(1), claimed(t, s, join(t, s)).Token)
	}
}

// No two names are the same key.
func TestEscape(t *testing.T) {
	keys := map[string]string{}
	for _, name := range []string{"x", "x#0", "x=230", "x=3D230", "x.y", "x=2Ey", "X", "x-y", "x_y", "", "x=", "x=3", "\x00", "\xff"} {
		key := escapeKey(name)
		assert.NotContains(t, keys, key, "%q and %q", name, keys[key])
		keys[key] = name
		assert.Regexp(t, "^[-_=a-zA-Z0-9]*$", key)
	}
}

func TestForeignBuckets(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	create := func(c jetstream.KeyValueConfig) {
		_, failed := js.CreateKeyValue(t.Context(), c)
		require.NoError(t, failed)
	}
	create(jetstream.KeyValueConfig{Bucket: "leases_p"})
	create(jetstream.KeyValueConfig{Bucket: "history", History: 5})
	create(jetstream.KeyValueConfig{Bucket: "ttl", TTL: time.Minute})
	create(jetstream.KeyValueConfig{Bucket: "copy", Mirror: &jetstream.StreamSource{Name: "KV_history"}})
	create(jetstream.KeyValueConfig{Bucket: "shared"})
	open := func(pool, bucket string) *store {
		s, failed := newStore(Config{Conn: nc, Bucket: bucket}, pool)
		require.NoError(t, failed)
		t.Cleanup(s.Idle)
		return s
	}
	for _, c := range []struct{ bucket, want string }{
		{"", `bucket "leases_p" can't be used: another program has made it`},
		{"history", `bucket "history" can't be used: it keeps 5 values of a key`},
		{"ttl", `bucket "ttl" can't be used: it forgets values after 1m0s`},
		{"copy", `bucket "copy" can't be used: it is no key-value bucket of its own`},
	} {
		_, err = open("p", c.bucket).Join(t.Context(), "pod-7")
		require.ErrorContains(t, err, c.want)
	}
	for _, pool := range []string{"p", "q"} {
		s := open(pool, "shared")
		assert.Equal(t, uint64(1), claimed(t, s, join(t, s)).Token, "pools share a bucket, and no lease")
	}

	kv, err := js.KeyValue(t.Context(), "shared")
	require.NoError(t, err)
	_, err = kv.PutString(t.Context(), "p.l.theirs", "42")
	require.NoError(t, err)
	s := open("p", "shared")
	_, err = s.Claim(t.Context(), join(t, s), []string{"theirs"})
	require.ErrorContains(t, err, `the value of key "l.theirs" is no lease`)
}

func TestServerWithoutJetStream(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, false)
	s := newTestStore(t, connect(t, url), "p")
	_, err := s.Join(t.Context(), "pod-7")
	require.ErrorContains(t, err, "is JetStream enabled")
}

// New asks nobody, and no error shows the password in the address.
func TestServerIsGoneAtTheStart(t *testing.T) {
	nc, err := nats.Connect("nats://pod:topsecret@127.0.0.1:1", nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	require.NoError(t, err)
	defer nc.Close()
	_, err = New(Config{Conn: nc}, "p")
	require.NoError(t, err)
	s := newTestStore(t, nc, "p")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Join(ctx, "pod-7")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no connection to the server")
	assert.NotContains(t, err.Error(), "topsecret")
	nc.Close()
	_, err = s.Join(t.Context(), "pod-7")
	require.ErrorContains(t, err, "no connection to the server (CLOSED)")
}

func TestReplicasOfANewBucket(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	s, err := newStore(Config{Conn: connect(t, url), Replicas: 3}, "p")
	require.NoError(t, err)
	_, err = s.Join(t.Context(), "pod-7")
	require.ErrorContains(t, err, "replicas > 1 not supported in non-clustered mode")
}

// What can't be right is what the status of a waiting task says; once it is right, the task begins.
func TestWaits(t *testing.T) {
	const status = `waits for lease "job": the engine has failed: natslease: bucket "leases_p"`
	waits := func(t *testing.T, nc *nats.Conn, want string, mend func()) {
		t.Helper()
		leasetest.Waits(t, func(opts ...lease.Option) (leasetest.Engine, error) { return New(Config{Conn: nc}, "p", opts...) },
			status+want, "topsecret", mend)
	}
	t.Run("NoJetStream", func(t *testing.T) {
		url, stop := startServer(t, t.TempDir(), -1, false)
		waits(t, connect(t, url), ": nobody answers: is JetStream enabled", func() {
			stop()
			startServer(t, t.TempDir(), port(t, url), true)
		})
	})
	t.Run("AnotherProgramsBucket", func(t *testing.T) {
		url, _ := startServer(t, t.TempDir(), -1, true)
		nc := connect(t, url)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "leases_p"})
		require.NoError(t, err)
		_, err = kv.PutString(t.Context(), "p.l.job", "theirs")
		require.NoError(t, err)
		waits(t, nc, " can't be used: another program has made it; Config.Bucket names the one to use", nil)
		keys, err := kv.Keys(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []string{"p.l.job"}, keys, "nothing of the other program is disturbed")
		value, err := kv.Get(t.Context(), "p.l.job")
		require.NoError(t, err)
		assert.Equal(t, "theirs", string(value.Value()))
	})
	t.Run("NoServer", func(t *testing.T) {
		url, stop := startServer(t, t.TempDir(), -1, true)
		stop()
		nc, err := nats.Connect(strings.Replace(url, "://", "://pod:topsecret@", 1), nats.RetryOnFailedConnect(true),
			nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
		require.NoError(t, err)
		defer nc.Close()
		waits(t, nc, ": no connection to the server", func() { startServer(t, t.TempDir(), port(t, url), true) })
	})
}
