package picture_test

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
	"github.com/go-taskmanager/taskmanager/internal/picture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the pictures in docs anew")

// The pictures in docs show what a webhook's messages look like: a restart, several of them merged,
// and a giving-up with the stack of a panic.
func TestPictures(t *testing.T) {
	var messages []discordtest.Message
	synctest.Test(t, func(t *testing.T) { messages = report(t) })
	const title = "Messages in a channel: a task that will be restarted, one whose twelve failures are told together, " +
		"and one that was given up after a panic, with its stack"
	for name, theme := range map[string]picture.Theme{"light": picture.Light, "dark": picture.Dark} {
		svg := picture.SVG(messages, title, theme)
		path := "../../docs/discord-" + name + ".svg"
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(svg), 0o644))
		}
		current, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, string(current), svg, "run: go test ./internal/picture -update")
	}
}

// report lets two tasks fail, and returns the messages that a channel shows then.
func report(t *testing.T) []discordtest.Message {
	time.Sleep(time.Until(time.Date(2026, 3, 14, 9, 26, 0, 0, time.UTC)))
	d := discordtest.New()
	d.AddWebhook("1", "token", "2")
	d.AddRole("3", "on-call")
	w, err := discord.NewWebhook("https://discord.com/api/webhooks/1/token", discord.WithHTTPClient(&http.Client{Transport: d.Transport()}),
		discord.WithUsername("Task watch"), discord.WithHost("web-1"), discord.WithMentionRole("3"))
	require.NoError(t, err)
	m, err := taskmanager.New(taskmanager.WithReporter(w), taskmanager.WithName("shop"), taskmanager.WithBackoffJitter(0),
		taskmanager.WithLogger(slog.New(slog.DiscardHandler)), taskmanager.WithReportLimit(rate.Every(38*time.Second), 1))
	require.NoError(t, err)
	_, err = m.StartTask("importer", new(importer).run, taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(37*time.Second, 37*time.Second))
	require.NoError(t, err)
	time.Sleep(4 * time.Second)
	_, err = m.StartTask("mail queue", mailQueue, taskmanager.WithMaxRestarts(20), taskmanager.WithBackoff(3*time.Second, 3*time.Second))
	require.NoError(t, err)
	time.Sleep(35 * time.Second)
	require.NoError(t, m.StopAll(t.Context()))
	messages := d.Messages()
	require.Len(t, messages, 2)
	for i := range messages {
		for j := range messages[i].Embeds {
			e := &messages[i].Embeds[j]
			e.Description = asOfAProgram(e.Description)
		}
	}
	return messages
}

// An importer fails, and panics in its next run.
type importer struct{ runs int }

func (i *importer) run(context.Context) error {
	if i.runs++; i.runs == 1 {
		return errors.New("open import/2026-03-14.csv: no such file or directory")
	}
	time.Sleep(250 * time.Millisecond)
	parse([]string{"[free](https://example.org)", "@everyone"})
	return nil
}

// parse takes for granted that a line has three columns.
func parse(columns []string) string { return columns[2] }

func mailQueue(context.Context) error {
	time.Sleep(20 * time.Millisecond)
	return errors.New("dial tcp 192.0.2.7:25: connect: connection refused")
}

// asOfAProgram makes a stack look as if the functions of this file were a program's. Its other
// calls are left out: their lines change with Go and with the library, and the pictures should not.
func asOfAProgram(description string) string {
	const thisFile = "picture_test.go:"
	var b strings.Builder
	rest := strings.SplitAfter(description, "\n")
	for len(rest) > 0 {
		line := rest[0]
		rest = rest[1:]
		_, function, ok := strings.Cut(line, "/picture_test.")
		if !ok || len(rest) == 0 {
			if strings.HasPrefix(line, "github.com/") || strings.HasPrefix(line, "runtime.") {
				rest = rest[1:]
			} else {
				b.WriteString(line)
			}
			continue
		}
		_, number, _ := strings.Cut(rest[0], thisFile)
		b.WriteString("main." + function + "\t/src/shop/importer.go:" + number)
		rest = rest[1:]
	}
	return b.String()
}

// Whatever a message says, the picture is XML, and the text is text.
func TestHostileText(t *testing.T) {
	for _, text := range []string{
		"<script>alert(1)</script>", `"'><image href="https://example.org/"/>`, "]]>&amp;&#0;\x00\x1b", "\ufffe\u202e", strings.Repeat("🛑/ ", 900), "```\n</svg>\n```", "**a** `b` _c_\nd",
	} {
		m := discordtest.Message{Author: text, Content: text, Embeds: []discordtest.Embed{{
			Title: text, Description: text, Footer: &discordtest.Footer{Text: text},
			Fields: []discordtest.Field{{Name: text, Value: text, Inline: true}, {Name: text, Value: text, Inline: true}, {Name: text, Value: text}},
		}}}
		svg := picture.SVG([]discordtest.Message{m, {}}, text, picture.Dark)
		elements := parseSVG(t, svg, 640)
		assert.Subset(t, []string{"svg", "title", "style", "rect", "circle", "text", "tspan"}, elements, "%q", text)
	}
}

// parseSVG checks that nothing is drawn outside the picture and returns the names of its elements.
func parseSVG(t *testing.T, svg string, width int) (elements []string) {
	t.Helper()
	var height int
	for decoder := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		require.NoError(t, err)
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		elements = append(elements, start.Name.Local)
		box := make(map[string]int)
		for _, a := range start.Attr {
			box[a.Name.Local], _ = strconv.Atoi(a.Value)
		}
		if start.Name.Local == "svg" {
			height = box["height"]
		}
		assert.LessOrEqual(t, box["x"]+box["width"], width, "%v", start)
		assert.LessOrEqual(t, box["y"]+box["height"], height, "%v", start)
		assert.GreaterOrEqual(t, box["height"], 0, "%v", start)
	}
}
