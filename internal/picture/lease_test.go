package picture_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/internal/picture"
)

// The pictures of leases in docs are those that are drawn. Their descriptions and numbers are those in docs/leases.md.
func TestPicturesOfLeases(t *testing.T) {
	page, err := os.ReadFile("../../docs/leases.md")
	require.NoError(t, err)
	for name, draw := range map[string]func(picture.Theme) (svg, title string){"handover": picture.HandOver, "loss": picture.Loss} {
		for suffix, theme := range map[string]picture.Theme{"light": picture.Light, "dark": picture.Dark} {
			svg, title := draw(theme)
			path := "../../docs/lease-" + name + "-" + suffix + ".svg"
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(svg), 0o644))
			}
			current, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(current), svg, "run: go test ./internal/picture -update")
			described := strings.Contains(string(page), `alt="`+title+`"`)
			assert.True(t, described, "docs/leases.md has no picture with alt=%q", title)
			elements := parseSVG(t, svg, 800)
			assert.Subset(t, []string{"svg", "title", "style", "rect", "circle", "text", "line"}, elements)
		}
	}
	loss, _ := picture.Loss(picture.Light)
	for _, number := range []string{"8.57 s", "13.57 s", "15 s"} {
		assert.Contains(t, loss, number)
		assert.Contains(t, strings.ReplaceAll(string(page), "\n", " "), number)
	}
}
