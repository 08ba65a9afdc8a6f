package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func regexpOf(alternatives []string) *regexp.Regexp {
	return regexp.MustCompile(strings.Join(alternatives, "|"))
}

// sampleResults are some, of two rounds.
func sampleResults(t *testing.T) *results {
	t.Helper()
	s, err := parse([]string{"-quick"}, nil)
	require.NoError(t, err)
	r := newResults(s)
	r.date = time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	r.load = "0.12"
	r.servers = []string{"PostgreSQL 15", "NATS"}
	r.works = works(true)
	for i, stop := range []float64{3e6, 250e6, 4e6} {
		r.Add("stopped/3s", onPostgres.name, values{"stop": stop, "nobody": stop, "both": 0})
		r.Add("slowly/3s", clientGoRelease.name, values{"stop": 1e8, "nobody": 0, "both": float64(i) * 1e8})
	}
	r.Add("spread/4x500", onPostgres.name, values{"share": 1.07, "start claims": 12345})
	return r
}

// line returns the only one of the text that begins so, after that heading.
func line(t *testing.T, text, heading, begin string) string {
	t.Helper()
	_, text, found := strings.Cut(text, "\n### "+heading)
	require.True(t, found, heading)
	text, _, _ = strings.Cut(text, "\n### ")
	var lines []string
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, begin) {
			lines = append(lines, strings.TrimSuffix(l, "\n"))
		}
	}
	require.Len(t, lines, 1, "%s in %s", begin, text)
	return lines[0]
}

func TestResultsAreMedians(t *testing.T) {
	text := sampleResults(t).markdown()
	assert.Contains(t, text, "Made by `go run ./bench/lease -quick` on 28 November 2026, ")
	assert.Contains(t, text, ", with a load of 0.12 before: 3 rounds.\n")
	assert.Contains(t, text, " A dash: that is not measured.\n")
	assert.Contains(t, text, "PostgreSQL 15, NATS. Peers: client-go ")
	const stopped, slowly = "Stopped, with a body that returns at once", "Stopped, with a body that needs 900ms"
	assert.Equal(t, "| **taskmanager**, PostgreSQL | 4.00 ms (3.00 ms – 250 ms) | 4.00 ms (3.00 ms – 250 ms) | 0 |",
		line(t, text, stopped, "| **taskmanager**, PostgreSQL"))
	assert.Equal(t, "| client-go, ReleaseOnCancel | 100 ms | 0 | 100 ms (0 – 200 ms) |",
		line(t, text, slowly, "| client-go, ReleaseOnCancel |"))
	assert.Equal(t, "| the largest share, of the mean, 125 | 1.07× |", line(t, text, "500 names", "| the largest share"))
	assert.Equal(t, "| claims; the least is 500 | 12,345 |", line(t, text, "500 names", "| claims; the least"))
	assert.Contains(t, line(t, text, "500 names", "| one joins"), "| – |")
	assert.NotContains(t, text, "**taskmanager**, NATS |", "it has done nothing")
	assert.Contains(t, text, "\n| stopped/3s | postgres | nobody works | 3.00 ms, 250 ms, 4.00 ms |\n")
}

func TestTargetsAreJudgedByTheWorst(t *testing.T) {
	text := sampleResults(t).markdown()
	for begin, rest := range map[string]string{
		"| stopped/3s | PostgreSQL | nobody works |":        " 200 ms | 250 ms | **missed** |",
		"| stopped/3s | PostgreSQL | two work at once |":    " 0 | 0 | met |",
		"| spread/4x500 | PostgreSQL | the largest share |": " 1.20× | 1.07× | met |",
	} {
		assert.Equal(t, begin+rest, line(t, text, "Targets", begin))
	}
	assert.NotContains(t, text, "| slowly/3s | Kubernetes | two", "it is another's")
}

// Each target is of a measure, each side has a title, and each value of a measure is written.
func TestWorksAreWhole(t *testing.T) {
	for _, quick := range []bool{false, true} {
		names := make(map[string]bool)
		for _, w := range works(quick) {
			assert.False(t, names[w.name], w.name)
			names[w.name] = true
			for _, target := range w.targets {
				assert.NotPanics(t, func() { w.unitOf(target.key) }, "%s: %s", w.name, target.key)
			}
			for _, one := range w.sides {
				assert.NotEmpty(t, titles[one.name], one.name)
				found, ok := sideByName(one.name)
				assert.True(t, ok, one.name)
				assert.Equal(t, one.server, found.server)
			}
		}
	}
	assert.Panics(t, func() { works(true)[0].unitOf("none") })
}

func TestUnitsAreWritten(t *testing.T) {
	for want, got := range map[string]string{
		"0":       nanoseconds.write(0),
		"1.50 µs": nanoseconds.write(1500),
		"42.0 ms": nanoseconds.write(42e6),
		"13.6 s":  nanoseconds.write(13.57e9),
		"10,000":  count.write(1e4),
		"-1,000":  count.write(-1000),
		"999":     perSecond.write(999),
		"3,333":   perSecond.write(3333.3),
		"1.20×":   times.write(1.2),
	} {
		assert.Equal(t, want, got)
	}
	assert.Equal(t, "–", measure{}.cell(nil))
}

func TestLeaseRequestsOfMetrics(t *testing.T) {
	v, err := leaseRequests(`# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",verb="GET"} 40
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",verb="PUT"} 5
apiserver_request_total{code="409",group="coordination.k8s.io",resource="leases",verb="PUT"} 2
apiserver_request_total{code="201",group="coordination.k8s.io",resource="leases",verb="POST"} 1.5e+01
apiserver_request_total{code="200",group="",resource="pods",verb="PUT"} 1000
apiserver_request_duration_seconds_count{resource="leases",verb="PUT"} 1000
`)
	require.NoError(t, err)
	assert.Equal(t, values{"all": 62, "writes": 22}, v)
	_, err = leaseRequests(`apiserver_request_total{resource="leases"} many`)
	assert.Error(t, err)
}
