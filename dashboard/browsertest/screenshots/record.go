package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-taskmanager/taskmanager/dashboard"
)

// A page that was recorded, with all that it asks for.
type recording struct {
	file   string // of its pictures, without theme and ending
	height int64  // of the pictures, in CSS pixels

	address string
	answers map[string]*httptest.ResponseRecorder // by address: of the page, and of what it loads
	message string                                // of its stream
}

// record has the service live, and records what the dashboard answers then.
func record(t *testing.T) []*recording {
	pages := []*recording{
		{file: "dashboard", address: "", height: 880},
		{file: "dashboard-task", address: "task?task=importer", height: 1100},
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(deployed))
		s, err := start()
		if err == nil {
			err = errors.Join(s.live(), s.record(pages), s.end())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return pages
}

var (
	assets = regexp.MustCompile(`(?:href|src)="((?:style|script|favicon)\.[^"]+)"`)
	rowIDs = regexp.MustCompile(`data-id="([^"]+)"`)
)

func (s *service) record(pages []*recording) error {
	h, err := dashboard.New(s.m, dashboard.WithActions(func(*http.Request, dashboard.Action) error { return nil }))
	if err != nil {
		return err
	}
	get := func(address string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/"+address, http.NoBody))
		return w
	}
	for _, p := range pages {
		p.answers = map[string]*httptest.ResponseRecorder{p.address: get(p.address)}
		html := p.answers[p.address].Body.String()
		var ids []string
		for _, found := range rowIDs.FindAllStringSubmatch(html, -1) {
			ids = append(ids, found[1])
		}
		live := get("live?once=1&rows=" + url.QueryEscape(strings.Join(ids, "")))
		p.message = live.Body.String()
		for _, found := range assets.FindAllStringSubmatch(html, -1) {
			p.answers[found[1]] = get(found[1])
		}
		for address, answer := range p.answers {
			if answer.Code != http.StatusOK {
				return fmt.Errorf("%s: status %d", address, answer.Code)
			}
		}
	}
	return nil
}

// ServeHTTP answers as the dashboard has, and keeps the stream open.
func (p *recording) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/live" {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", strings.TrimSpace(p.message))
		if err := http.NewResponseController(w).Flush(); err == nil {
			<-r.Context().Done()
		}
		return
	}
	answer, ok := p.answers[strings.TrimPrefix(r.URL.RequestURI(), "/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	maps.Copy(w.Header(), answer.Header())
	_, _ = w.Write(answer.Body.Bytes())
}
