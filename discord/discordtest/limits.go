package discordtest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A rule allows so many requests in each window, which begins with the first of them.
type rule struct {
	requests int
	per      time.Duration
}

// A bucket counts the requests of one route.
type bucket struct {
	used   int
	resets time.Time
}

// SetRateLimit allows n requests in each period to each webhook and each channel, from now on.
func (s *Server) SetRateLimit(n int, per time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = rule{n, per}
	s.buckets = make(map[string]*bucket)
}

// SetGlobalLimit allows n requests in each period in all, from now on.
func (s *Server) SetGlobalLimit(n int, per time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.global = rule{n, per}
	s.buckets = make(map[string]*bucket)
}

// takeLocked counts a request. It returns the headers that go with whatever is answered, or the
// answer that it is one too many.
func (s *Server) takeLocked(route string) (http.Header, *answer) {
	now := time.Now()
	if _, wait := s.bucketLocked("", s.global, now); wait > 0 {
		return nil, tooMany(wait, true)
	}
	b, wait := s.bucketLocked(route, s.limit, now)
	after := b.resets.Sub(now)
	h := make(http.Header)
	h.Set("X-RateLimit-Limit", strconv.Itoa(s.limit.requests))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(max(0, s.limit.requests-b.used)))
	h.Set("X-RateLimit-Reset", fmt.Sprintf("%.3f", float64(b.resets.UnixMilli())/1e3))
	h.Set("X-RateLimit-Reset-After", fmt.Sprintf("%.3f", after.Seconds()))
	h.Set("X-RateLimit-Bucket", "80c17d2f203122d936070c88c8d10f33") // the same for all webhooks or channels
	if wait > 0 {
		return h, tooMany(wait, false)
	}
	return h, nil
}

// bucketLocked takes one out of a bucket, or says how long to wait for that.
func (s *Server) bucketLocked(route string, r rule, now time.Time) (*bucket, time.Duration) {
	b := s.buckets[route]
	if b == nil {
		b = new(bucket)
		s.buckets[route] = b
	}
	if !now.Before(b.resets) {
		*b = bucket{resets: now.Add(r.per)}
	}
	if b.used >= r.requests {
		return b, b.resets.Sub(now)
	}
	b.used++
	return b, 0
}
