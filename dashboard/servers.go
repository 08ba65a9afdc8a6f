package dashboard

import (
	"net/http"
	"sync"
	"weak"
)

// servers knows which of the servers that the handler is served by are being shut down: http.Server.Shutdown waits for the requests that
// are open, and a stream would be open for ever.
type servers struct {
	mu       sync.Mutex
	stopping map[weak.Pointer[http.Server]]chan struct{} // closed when Shutdown of it was called
}

// stoppingOf returns a channel that is closed when the server of r is shut down; nil, which never is, where that can't be known.
func (s *servers) stoppingOf(r *http.Request) <-chan struct{} {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if !ok || server == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := weak.Make(server)
	stopping, known := s.stopping[key]
	if known {
		return stopping
	}
	for k := range s.stopping {
		if k.Value() == nil {
			delete(s.stopping, k)
		}
	}
	if s.stopping == nil {
		s.stopping = make(map[weak.Pointer[http.Server]]chan struct{})
	}
	stopping = make(chan struct{})
	s.stopping[key] = stopping
	server.RegisterOnShutdown(sync.OnceFunc(func() { close(stopping) }))
	return stopping
}
