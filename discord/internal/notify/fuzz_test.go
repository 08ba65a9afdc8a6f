package notify

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// FuzzRender sees that no text from elsewhere breaks a limit, a character or the JSON, or means
// more than itself.
func FuzzRender(f *testing.F) {
	const secret = "not-the-Token_of-a-webhook-0123456789"
	f.Add("consumer", "connection refused", "", "billing", "Watch", 2, 0, int64(2e9), int64(1795521600), uint8(1))
	f.Add(strings.Repeat("🧨", 63), strings.Repeat("世", 1200), "1 @ 0x1\n#\t0x1\tmain.f+0x1\tmain.go:1\n", "m", "", 6, 12, int64(0), int64(0), uint8(3))
	f.Add("@everyone", "```\n@here <@80351110224678912>", "``` `` `", "<@&165511591545143296>", "everyone", 3, 999, int64(-1), int64(1<<40), uint8(12))
	f.Add("|||[a](https://evil.test)", "\x1b[31m\u202E\xff\xfe", "\u2028\r\n\x00", "`||x||`", "clyde", 3, -1, int64(1<<62), int64(-1<<62), uint8(10))
	f.Add(secret, "Post \"https://discord.com/api/webhooks/1/"+secret+"\": EOF", secret, secret, "Watch", 6, 1, int64(1), int64(1), uint8(2))
	f.Fuzz(func(t *testing.T, task, text, stack, manager, username string, kind, repeats int, delay, second int64, count uint8) {
		c := Config{
			Username: username, Host: strings.ToValidUTF8(strings.Map(printable, manager), ""),
			MentionRole: roleID, MentionUser: userID, Secret: secret,
		}
		if checkUsername(username) != "" || strings.Contains(username, secret) {
			c.Username = ""
		}
		n, err := New(c, nil)
		require.NoError(t, err)
		e := taskmanager.Event{
			Time: time.Unix(second, 0), Manager: manager, Task: task, Kind: taskmanager.EventKind(kind), Run: uint64(second),
			Err: errors.New(text), Delay: time.Duration(delay), Uptime: time.Duration(delay), Repeats: repeats,
			Restarts: repeats, MaxRestarts: kind, Window: time.Duration(second),
		}
		if stack != "" {
			e.Err = &taskmanager.StopTimeoutError{Task: text, Stack: []byte(stack)}
		}
		if kind == int(taskmanager.EventGaveUp) {
			e.Err = &taskmanager.GiveUpError{Task: task, Err: e.Err}
		}
		events := make([]taskmanager.Event, count%16)
		for i := range events {
			events[i] = e
		}
		m, taken := n.Render(events)
		if m == nil {
			assert.Equal(t, len(events), taken, "nothing to be sent")
			return
		}
		assert.Len(t, m.Embeds, taken)
		checkMessage(t, m)
		message, err := json.Marshal(m)
		require.NoError(t, err)
		assert.NotContains(t, string(message), secret)
	})
}

// printable is for a host's name, which New would refuse otherwise.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return -1
	}
	return r
}

var (
	// All backticks of a description are those of its blocks.
	descriptionForm = regexp.MustCompile("^(The error has no text\\.|Its last run returned nil\\.)?(```\n[^`]+\n```){0,2}$")
	// In a title each of these is followed by something that takes away its meaning.
	activeInTitle = regexp.MustCompile("`|@[^\u200B… ]|<[^\u200B… ]|\\]\\(|:/|\\*|(^|[^\\pL\\p{Nd}])_|_([^\\pL\\p{Nd}…]|$)|~~|\\|\\|")
	valueForms    = map[string]*regexp.Regexp{
		"Run":          regexp.MustCompile(`^[0-9]+$`),
		"Restarts":     regexp.MustCompile(`^-?[0-9]+ of (-?[0-9]+|unlimited) within [0-9.µa-z]+$`),
		"Next attempt": regexp.MustCompile(`^(none|at once|<t:-?[0-9]+:R>)$`),
		"Uptime":       regexp.MustCompile(`^[0-9.µa-z]+$`),
		"Host":         regexp.MustCompile("^`[^`]+`$"),
		"Manager":      regexp.MustCompile("^`[^`]+`$"),
		"Merged":       regexp.MustCompile(`^[0-9]+ [a-z ]+ ?(since <t:[0-9]+:T>)?, this is the latest$`),
	}
)

// hidden tells of characters that must not show up. Joiners are parts of emoji, and titles have
// spaces without width of ours.
func hidden(r rune) bool {
	if strings.ContainsRune("\n\t\u200B\u200C\u200D", r) {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf)
}

// checkMessage asserts that m is within all limits of Discord, and that everything in it that comes
// from elsewhere is inert.
func checkMessage(t *testing.T, m *Message) {
	t.Helper()
	within := func(what, s string, least, most int) {
		assert.True(t, utf8.ValidString(s), "%s: %q", what, s)
		assert.LessOrEqual(t, length(s), most, what)
		assert.GreaterOrEqual(t, length(strings.TrimSpace(s)), least, what)
		assert.Equal(t, -1, strings.IndexFunc(s, hidden), "%s: %q", what, s)
	}
	within("content", m.Content, 0, 2000)
	within("username", m.Username, 0, 80)
	assert.GreaterOrEqual(t, len(m.Embeds), 1)
	assert.LessOrEqual(t, len(m.Embeds), maxEmbeds)
	total, final := 0, false
	for _, e := range m.Embeds {
		within("title", e.Title, 1, maxTitle)
		assert.NotRegexp(t, activeInTitle, e.Title)
		assert.NotContains(t, e.Title, "\n")
		within("description", e.Description, 0, maxDescription)
		assert.Regexp(t, descriptionForm, e.Description)
		assert.LessOrEqual(t, len(e.Fields), maxFields)
		total += length(e.Title) + length(e.Description)
		for _, f := range e.Fields {
			within(f.Name, f.Name, 1, maxFieldName)
			within(f.Name, f.Value, 1, maxFieldValue)
			require.Contains(t, valueForms, f.Name)
			assert.Regexp(t, valueForms[f.Name], f.Value)
			total += length(f.Name) + length(f.Value)
		}
		if e.Timestamp != "" {
			_, err := time.Parse(time.RFC3339, e.Timestamp)
			assert.NoError(t, err)
		}
		final = final || strings.HasPrefix(e.Title, kinds[taskmanager.EventGaveUp].symbol)
	}
	assert.LessOrEqual(t, total, maxTotal)

	want, allowed := "", AllowedMentions{Parse: []string{}}
	if final {
		want = "<@&" + roleID + "> <@" + userID + ">"
		allowed.Roles, allowed.Users = []string{roleID}, []string{userID}
	}
	assert.Equal(t, want, m.Content)
	text, err := json.Marshal(m)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"parse":[]`)
	var again Message
	require.NoError(t, json.Unmarshal(text, &again))
	assert.Equal(t, *m, again)
	assert.Equal(t, allowed, again.AllowedMentions)
}
