package dashboard

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0: "0s", 1: "0s", time.Millisecond: "1ms", 850 * time.Millisecond: "850ms",
		999_499 * time.Microsecond: "999ms", 999_500 * time.Microsecond: "1s", 4_249 * time.Millisecond: "4.2s",
		59_949 * time.Millisecond: "59.9s", 59_950 * time.Millisecond: "1m", 119_500 * time.Millisecond: "2m", 185 * time.Second: "3m5s",
		time.Hour - 501*time.Millisecond: "59m59s", time.Hour - 500*time.Millisecond: "1h", 4*time.Hour + 12*time.Minute: "4h12m",
		2*day - 31*time.Second: "47h59m", 2*day - 30*time.Second: "2d", 2*day + 3*time.Hour: "2d3h", 3*day - time.Second: "3d",
		-90 * time.Second: "-1m30s", math.MaxInt64: "106751d23h", math.MinInt64: "-106751d23h",
	} {
		assert.Equal(t, want, durationText(d), "%d ns", d)
	}
}

func TestAbridge(t *testing.T) {
	assert.Equal(t, "1234", abridge("1234", 4))
	assert.Equal(t, "12 … 56", abridge("123456", 4))
	assert.Equal(t, "1 … 4", abridge("1€€€4", 6), "no rune is cut")
	assert.Equal(t, " … ", abridge("\x80\x80\x80", 2), "what is no text has no place to be cut at")
}

func TestRelativeTimes(t *testing.T) {
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	for _, one := range []struct {
		kind string
		at   time.Time
		want string
	}{
		{kindAgo, now.Add(-time.Minute), "1m ago"},
		{kindAgo, now.Add(time.Minute), "0s ago"}, // the clock was set back
		{kindFor, now.Add(-time.Minute), "1m"},
		{kindFor, now.Add(time.Minute), "0s"},
		{kindIn, now.Add(time.Minute), "in 1m"},
		{kindIn, now, "now"},
		{kindIn, now.AddDate(-1000, 0, 0), "now"},
		{kindIn, now.AddDate(1000, 0, 0), "in 106751d23h"},
	} {
		assert.Equal(t, one.want, relative(one.kind, one.at, now), "%s %s", one.kind, one.at)
	}
}
