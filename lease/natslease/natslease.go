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

// A Config says where the leases of a pool are kept. Its zero value is fine for a single server.
type Config struct {
	// Bucket names the key-value bucket to use, which may have been made by someone else: with one value a key (history 1) and
	// without a limit of age. Several pools may share one. It is made if it doesn't exist. The default, "", is a bucket named after
	// the pool, "leases_POOL", which no other program may have made.
	Bucket string

	// Replicas is the number of servers that keep a copy, if the bucket is made: 1, which is the default for 0, to 5. An existing bucket
	// stays as it is. In a cluster it should be 3.
	Replicas int
}

// New returns an engine for the leases of the pool, with the zero [Config]. The connection stays the caller's, who closes it after the
// engine. It returns an error if the pool's name is empty or has more than 63 bytes, and the errors of [lease.New].
//
// It asks nobody: a server that is gone, or has no JetStream, is what those who wait for a lease are told.
func New(nc *nats.Conn, pool string, opts ...lease.Option) (*lease.Engine, error) {
	store, err := NewStore(nc, pool, Config{})
	if err != nil {
		return nil, err
	}
	return lease.New(store, opts...)
}

// NewStore is [New] for another [Config]: it returns what [lease.New] needs.
func NewStore(nc *nats.Conn, pool string, config Config) (lease.Store, error) {
	switch {
	case nc == nil:
		return nil, errors.New("natslease: the connection is nil")
	case pool == "":
		return nil, errors.New("natslease: the pool has no name")
	case len(pool) > maxPool:
		return nil, fmt.Errorf("natslease: the name of the pool has %d bytes, of at most %d: %.80q", len(pool), maxPool, pool)
	case config.Replicas < 0 || config.Replicas > 5:
		return nil, fmt.Errorf("natslease: %d copies of a bucket, of 1 to 5", config.Replicas)
	case config.Bucket != escape(config.Bucket, "_-", '/'):
		return nil, fmt.Errorf("natslease: %.80q is no name of a bucket: letters, digits, - and _", config.Bucket)
	}
	bucket := config.Bucket
	if bucket == "" {
		bucket = "leases_" + escape(pool, "-", '_')
	}
	return &store{
		nc: nc, bucket: bucket, stream: "KV_" + bucket,
		// Whoever shares the bucket must not share a key.
		prefix: "$KV." + bucket + "." + escapeKey(pool) + ".",
		own:    config.Bucket == "", replicas: max(config.Replicas, 1),
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
