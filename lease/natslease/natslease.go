package natslease

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/go-taskmanager/taskmanager/lease"
)

// maxPool is the longest name of a pool, in bytes: escaped, it is part of the name of a stream, which has at most 255.
const maxPool = 63

// A Config says where the leases are kept.
type Config struct {
	// Conn is the connection to use. It stays the caller's, who closes it after the engine.
	Conn *nats.Conn

	// Bucket names the key-value bucket to use, which may have been made by someone else: with one value a key (history 1) and
	// without a limit of age. Several pools may share one. It is made if it doesn't exist. The default, "", is a bucket named after
	// the pool, "leases_POOL", which no other program may have made. There each byte of the pool that is neither a letter of ASCII,
	// nor a digit or a hyphen is _ and two hexadecimal digits: the bucket of pool "a.b" is "leases_a_2Eb".
	Bucket string

	// Replicas is the number of servers that keep a copy, if the bucket is made: 1, which is the default for 0, to 5. An existing bucket
	// stays as it is. In a cluster it should be 3.
	Replicas int
}

// New makes an engine for the leases of a pool, whose name has 1 to 63 bytes, whichever they are. All replicas that share leases give the
// same pool.
//
// It asks nobody: a server that is gone, or has no JetStream, is what a task waits for, as its status says. New returns an error if cfg or
// pool can't be right, or an option is wrong.
func New(cfg Config, pool string, opts ...lease.Option) (*lease.Engine, error) {
	s, err := newStore(cfg, pool)
	if err != nil {
		return nil, err
	}
	return lease.New(s, opts...)
}

func newStore(cfg Config, pool string) (*store, error) {
	switch {
	case cfg.Conn == nil:
		return nil, errors.New("natslease: the connection is nil")
	case pool == "":
		return nil, errors.New("natslease: the pool has no name")
	case len(pool) > maxPool:
		return nil, fmt.Errorf("natslease: the name of the pool has %d bytes, of at most %d: %.80q", len(pool), maxPool, pool)
	case cfg.Replicas < 0 || cfg.Replicas > 5:
		return nil, fmt.Errorf("natslease: %d copies of a bucket, of 1 to 5", cfg.Replicas)
	case cfg.Bucket != escape(cfg.Bucket, "_-", '/'):
		return nil, fmt.Errorf("natslease: %.80q is no name of a bucket: letters, digits, - and _", cfg.Bucket)
	}
	bucket := cfg.Bucket
	if bucket == "" {
		bucket = "leases_" + escape(pool, "-", '_')
	}
	return &store{
		nc: cfg.Conn, bucket: bucket, stream: "KV_" + bucket,
		// Whoever shares the bucket must not share a key.
		prefix: "$KV." + bucket + "." + escapeKey(pool) + ".",
		own:    cfg.Bucket == "", replicas: max(cfg.Replicas, 1),
	}, nil
}

// escapeKey returns a text that may be a part of a key, and is another one for each name.
func escapeKey(name string) string { return escape(name, "_-", '=') }

// escape replaces each byte that is neither a letter, nor a digit, nor in safe, by mark and two hexadecimal digits.
func escape(name, safe string, mark byte) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(safe, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%c%02X", mark, c)
		}
	}
	return b.String()
}
