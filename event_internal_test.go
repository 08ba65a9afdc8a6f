package taskmanager

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestEventDurationsAreRounded(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                              "0s",
		1:                              "1ns",
		999:                            "999ns",
		1001:                           "1µs",
		37_449:                         "37.4µs",
		300_474_892:                    "300ms",
		999_999_999:                    "1s",
		time.Second + 234_567_890:      "1.23s",
		26*time.Second + 149_999_999:   "26.1s",
		59*time.Second + 960_000_000:   "1m0s",
		72*time.Second + 499_999_999:   "1m12s",
		72*time.Second + 500_000_000:   "1m13s",
		26*time.Hour + 3*time.Second/2: "26h0m2s",
		1<<63 - 1:                      "2562047h47m16.854775807s", // it can't be rounded up
	} {
		assert.Equal(t, want, roundDuration(d).String())
	}
}
