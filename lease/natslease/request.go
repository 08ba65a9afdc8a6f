package natslease

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
)

// This file asks the server. It doesn't use the key-value API of the client, whose reads may be answered by any server that has a copy,
// an old one too, if the bucket allows that: most do. Here each read is a request that only the leader of the stream answers.

const (
	api           = "$JS.API."
	operation     = "KV-Operation" // the header that makes a message of a key-value bucket the marker of a removed key
	made          = "taskmanager"  // the key in the metadata of a bucket that says that this package has made it
	longestAnswer = 5 * time.Second
	atOnce        = 64 // requests

	// How often, and after which time, a message is sent again that had nobody to go to.
	noRespondersAgain = 5
	noRespondersPause = 50 * time.Millisecond

	codeNoMessage   = 10037
	codeNoStream    = 10059
	codeStreamInUse = 10058
	codeWrongLast   = 10071
	codeInProcess   = 10164 // another write of the same key is under way
)

// An apiError is why the server refuses a request.
type apiError struct {
	Code        int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.Code) }

// has reports whether err is an answer of the server with one of the codes.
func has(err error, codes ...int) bool {
	var refused *apiError
	return errors.As(err, &refused) && slices.Contains(codes, refused.Code)
}

// request sends msg and decodes the answer.
func (s *store) request(ctx context.Context, msg *nats.Msg, answer any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longestAnswer)
		defer cancel()
	}
	reply, err := s.nc.RequestMsgWithContext(ctx, msg)
	// The servers of a cluster tell one another who listens, and elect a leader: for a moment a message may have nobody to go to. Nothing has
	// happened then, so it may be sent again.
	for again := 0; again < noRespondersAgain && errors.Is(err, nats.ErrNoResponders); again++ {
		select {
		case <-time.After(noRespondersPause):
			reply, err = s.nc.RequestMsgWithContext(ctx, msg)
		case <-ctx.Done():
			again = noRespondersAgain // the error says more than that of ctx
		}
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		s.forgetBucket()
		return fmt.Errorf("natslease: bucket %q: nobody answers: is JetStream enabled, and does the stream have a leader? %w", s.bucket, err)
	case err != nil && !s.nc.IsConnected():
		return fmt.Errorf("natslease: bucket %q: no connection to the server (%v): %w", s.bucket, s.nc.Status(), err)
	case err != nil:
		return fmt.Errorf("natslease: bucket %q: %w", s.bucket, err)
	}
	var refused struct{ Error *apiError }
	if err := json.Unmarshal(reply.Data, &refused); err != nil {
		return fmt.Errorf("natslease: bucket %q: the answer is none of JetStream: %w", s.bucket, err)
	}
	if refused.Error != nil {
		if refused.Error.Code == codeNoStream {
			s.forgetBucket()
		}
		return fmt.Errorf("natslease: bucket %q: %w", s.bucket, refused.Error)
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("natslease: bucket %q: the answer is none of JetStream: %w", s.bucket, err)
	}
	return nil
}

// ask sends a request of JetStream's API about the stream.
func (s *store) ask(ctx context.Context, what string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.request(ctx, &nats.Msg{Subject: api + what + "." + s.stream, Data: data}, answer)
}

// A stored is what the stream has for a key.
type stored struct {
	revision uint64 // 0: nothing
	removed  bool   // only the marker of a removal
	value    []byte
	at       time.Time // on the server's clock
}

// get reads a key from the leader of the stream.
func (s *store) get(ctx context.Context, key string) (stored, error) {
	var answer struct {
		Message struct {
			Seq  uint64
			Data []byte
			Hdrs []byte
			Time time.Time
		}
	}
	err := s.ask(ctx, "STREAM.MSG.GET", map[string]string{"last_by_subj": s.prefix + key}, &answer)
	if has(err, codeNoMessage) {
		return stored{}, nil
	}
	m := answer.Message
	return stored{revision: m.Seq, removed: bytes.Contains(m.Hdrs, []byte(operation+":")), value: m.Data, at: m.Time}, err
}

// swap writes a key if its revision is still that, 0 for a key that must not exist, and returns the new revision: 0 if it is not.
// Without a value it removes the key: what remains is a marker.
func (s *store) swap(ctx context.Context, key string, revision uint64, value any) (uint64, error) {
	return s.put(ctx, key, nats.Header{"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(revision, 10)}}, value)
}

func (s *store) put(ctx context.Context, key string, header nats.Header, value any) (uint64, error) {
	msg := &nats.Msg{Subject: s.prefix + key, Header: header}
	if value == nil {
		msg.Header[operation] = []string{"DEL"}
	} else {
		data, err := json.Marshal(value)
		if err != nil {
			return 0, err
		}
		msg.Data = data
	}
	var ack struct{ Seq uint64 }
	err := s.request(ctx, msg, &ack)
	if has(err, codeWrongLast, codeInProcess) {
		return 0, nil
	}
	return ack.Seq, err
}

// A streamInfo is what is asked of the stream.
type streamInfo struct {
	Config struct {
		Subjects          []string          `json:"subjects"`
		MaxMsgsPerSubject int               `json:"max_msgs_per_subject"`
		MaxAge            time.Duration     `json:"max_age"`
		MaxMsgs           int64             `json:"max_msgs"`
		MaxBytes          int64             `json:"max_bytes"`
		Discard           string            `json:"discard"`
		Mirror            *json.RawMessage  `json:"mirror"`
		Sources           []json.RawMessage `json:"sources"`
		Metadata          map[string]string `json:"metadata"`
	}
	State struct {
		LastSeq  uint64 `json:"last_seq"`
		Subjects map[string]uint64
	}
}

// openBucket makes the bucket, unless it is there, and checks that leases are safe in it.
func (s *store) openBucket(ctx context.Context) error {
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	if opened {
		return nil
	}
	var info streamInfo
	err := s.ask(ctx, "STREAM.INFO", struct{}{}, &info)
	if has(err, codeNoStream) {
		err = s.ask(ctx, "STREAM.CREATE", map[string]any{
			// As the key-value API would make it, but that no server answers from an old copy.
			"name": s.stream, "subjects": []string{"$KV." + s.bucket + ".>"}, "max_msgs_per_subject": 1, "num_replicas": s.replicas,
			"retention": "limits", "storage": "file", "discard": "new", "max_msgs": -1, "max_bytes": -1, "max_consumers": -1,
			"max_msg_size": -1, "deny_delete": true, "allow_rollup_hdrs": true, "allow_direct": false,
			"description": "Leases of tasks", "metadata": map[string]string{made: "leases"},
		}, &info)
		if has(err, codeStreamInUse) { // somebody else has made it meanwhile, with another number of copies
			err = s.ask(ctx, "STREAM.INFO", struct{}{}, &info)
		}
	}
	if err != nil {
		return err
	}
	if err := s.check(info); err != nil {
		return err
	}
	s.mu.Lock()
	s.opened = true
	s.mu.Unlock()
	return nil
}

// check returns an error if a lease could be forgotten in the bucket, or another program's values be disturbed.
func (s *store) check(info streamInfo) error {
	c, why := info.Config, ""
	switch {
	case s.own && c.Metadata[made] != "leases":
		why = "another program has made it; Config.Bucket names the one to use"
	case len(c.Subjects) != 1 || c.Subjects[0] != "$KV."+s.bucket+".>" || c.Mirror != nil || len(c.Sources) > 0:
		why = "it is no key-value bucket of its own, but a copy of another stream"
	case c.MaxMsgsPerSubject != 1:
		why = fmt.Sprintf("it keeps %d values of a key, where a lease needs 1", c.MaxMsgsPerSubject)
	case c.MaxAge != 0:
		why = fmt.Sprintf("it forgets values after %v, a lease never", c.MaxAge)
	case (c.MaxMsgs > 0 || c.MaxBytes > 0) && c.Discard != "new":
		why = "it forgets old values when it is full"
	default:
		return nil
	}
	return fmt.Errorf("natslease: bucket %q can't be used: %s", s.bucket, why)
}

// forgetBucket has the next call look for the bucket: it may have been removed, and all that is known of it with it.
func (s *store) forgetBucket() {
	s.mu.Lock()
	s.opened = false
	v := s.view
	s.mu.Unlock()
	if v != nil {
		s.drop(v, false)
	}
}

// each calls f for 0 to n-1, up to atOnce at a time, and returns once all calls have: the error of the first that fails.
func each(n int, f func(i int) error) error {
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for i := range n {
		calls.Go(func() error { return f(i) })
	}
	return calls.Wait()
}
