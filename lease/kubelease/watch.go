package kubelease

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
)

// Watch implements lease.Store. It watches the leases alone; see the comment of the package.
func (s *store) Watch(ctx context.Context, changed func()) error {
	err := s.watch(ctx, changed)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *store) watch(ctx context.Context, changed func()) error {
	query := url.Values{"labelSelector": {s.selector(map[string]string{labelKind: kindLease})}}
	// Where to begin. Without that, the watch would begin with an event for each lease.
	query.Set("limit", "1")
	start, err := s.listAnswer(ctx, request{verb: "list", query: query})
	if err != nil {
		return err
	}
	query.Del("limit")
	query.Set("watch", "true")
	query.Set("resourceVersion", start.Metadata.ResourceVersion)
	r := request{verb: "watch", query: query}
	answer, err := s.client.send(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	changed()
	for events := json.NewDecoder(answer.Body); ; {
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if err := events.Decode(&event); errors.Is(err, io.EOF) {
			return s.client.failed(r, errors.New("the API server has ended the watch, as it does from time to time"))
		} else if err != nil {
			return s.client.failed(r, err)
		}
		switch event.Type {
		case "ERROR":
			var failure status
			if err := json.Unmarshal(event.Object, &failure); err != nil {
				return s.client.failed(r, err)
			}
			return s.client.statusError(r, failure.Code, failure)
		case "DELETED":
			changed()
		case "ADDED", "MODIFIED":
			var o object
			if err := json.Unmarshal(event.Object, &o); err != nil {
				return s.client.failed(r, err)
			}
			if o.Spec.HolderIdentity == "" {
				changed()
			}
		}
	}
}
