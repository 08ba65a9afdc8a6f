package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// secret is in some of the texts of FuzzRender, and must not be in what is shown.
const secret = "not-the-Token_of-a-webhook-0123456789"

// FuzzRender sees that each event is shown once, in order and in full as far as it fits, and that no text from elsewhere breaks a limit,
// a character or the JSON, or means more than itself.
func FuzzRender(f *testing.F) {
	f.Add("consumer", "connection refused", "", "billing", "Watch", 2, 0, int64(2e9), int64(1795521600), uint8(1), uint16(0))
	f.Add(strings.Repeat("🧨", 63), strings.Repeat("世", 1200), "1 @ 0x1\n#\t0x1\tmain.f+0x1\tmain.go:1\n", "m", "", 6, 12, int64(0), int64(0), uint8(3), uint16(0))
	f.Add("@everyone", "```\n@here <@80351110224678912>", "``` `` `", "<@&165511591545143296>", "everyone", 3, 999, int64(-1), int64(1<<40), uint8(12), uint16(0))
	f.Add("|||[a](https://evil.test)", "\x1b[31m\u202E\xff\xfe", "\u2028\r\n\x00", "`||x||`", "clyde", 3, -1, int64(1<<62), int64(-1<<62), uint8(10), uint16(0))
	f.Add(secret, "Post \"https://discord.com/api/webhooks/1/"+secret+"\": EOF", secret, secret, "Watch", 6, 1, int64(1), int64(1), uint8(2), uint16(0))
	f.Add("consumer", "many short ones", "", "", "", 1, 0, int64(0), int64(1795521600), uint8(15), uint16(0))
	f.Add("consumer", strings.Repeat("long ", 2000), "", "billing", "", 1, 0, int64(0), int64(1795521600), uint8(15), uint16(0))
	f.Add("consumer", "some that are wanted, the last among them", "", "billing", "", 3, 0, int64(0), int64(1795521600), uint8(10), uint16(0b1000))
	f.Add("consumer", "some that are wanted, not the last", "", "", "", 3, 0, int64(1), int64(0), uint8(15), uint16(0b1100))
	f.Add("", " \n\t\n", "", "", "", 0, 2999, int64(1), int64(0), uint8(15), uint16(0b10))
	f.Add("no kind that is known", "b", "", "", "", 8, 0, int64(1), int64(0), uint8(2), uint16(0))
	f.Fuzz(func(t *testing.T, task, text, stack, manager, username string, kind, repeats int, delay, second int64, count uint8, wanted uint16) {
		const longest = 20 << 10 // more than is looked at
		text, stack = text[:min(len(text), longest)], stack[:min(len(stack), longest)]
		c := Config{
			Username: username, Host: strings.ToValidUTF8(strings.Map(printable, manager), ""),
			MentionRole: roleID, MentionUser: userID, Secrets: func() []string { return []string{secret} },
		}
		if checkUsername(username) != "" || strings.Contains(username, secret) {
			c.Username = ""
		}
		for k := range kinds {
			if wanted&(1<<k) != 0 {
				c.Events = append(c.Events, k)
			}
		}
		n, err := New(c, nil)
		require.NoError(t, err)
		all := len(kinds) + 2 // kinds, with one before those that exist, and one after
		events := make([]taskmanager.Event, count%16)
		for i := range events {
			e := taskmanager.Event{
				Time: time.Unix(second, 0).Add(time.Duration(i) * time.Second), Manager: manager, Kind: taskmanager.EventKind((kind%all+all+i)%all - 1),
				Run: uint64(second) + uint64(i), Err: errors.New(text), Delay: time.Duration(delay), Uptime: time.Duration(delay), Repeats: repeats,
				Restarts: repeats, MaxRestarts: kind, Window: time.Duration(second),
			}
			if task != "" {
				e.Task = fmt.Sprintf("%d %s", i, task)
			}
			if i%3 == 0 {
				e.Dependents, e.DependentCount = []string{"a" + task, "b" + manager}, repeats
			}
			if stack != "" {
				e.Err = &taskmanager.StopTimeoutError{Task: text, Stack: []byte(stack)}
			}
			switch e.Kind {
			case taskmanager.EventGaveUp, taskmanager.EventPassGaveUp:
				e.Err = &taskmanager.GiveUpError{Task: task, Err: e.Err}
			case taskmanager.EventRecovered:
				e.Failures, e.FailedSince = kind, e.Time.Add(-time.Duration(second))
			}
			events[i] = e
		}
		isWanted := func(e taskmanager.Event) bool {
			return known(e.Kind) && (c.Events == nil || slices.Contains(c.Events, e.Kind))
		}
		m, taken := n.Render(slices.Clone(events))
		if !slices.ContainsFunc(events, isWanted) {
			assert.Nil(t, m)
			assert.Equal(t, len(events), taken, "nothing to be sent")
			return
		}
		require.NotNil(t, m)
		checkMessage(t, m)
		shown := slices.DeleteFunc(slices.Clone(events[:taken]), func(e taskmanager.Event) bool { return !isWanted(e) })
		require.Len(t, m.Embeds, len(shown))
		for i := range shown {
			checkEmbed(t, &m.Embeds[i], &shown[i], c)
		}
		if taken < len(events) {
			require.True(t, isWanted(events[taken]), "what is not to be sent counts as delivered")
			next, _ := n.Render(events[taken : taken+1])
			total := next.Embeds[0].size()
			for i := range m.Embeds {
				total += m.Embeds[i].size()
			}
			assert.True(t, len(m.Embeds) == maxEmbeds || total > maxTotal, "the next event fits in")
		}
		message, err := json.Marshal(m)
		require.NoError(t, err)
		assert.NotContains(t, string(message), secret)
	})
}

// checkEmbed asserts that embed says what there is to say of e.
func checkEmbed(t *testing.T, embed *Embed, e *taskmanager.Event, c Config) {
	t.Helper()
	kind := kinds[e.Kind]
	what := " " + kind.what
	if cools(e) {
		what = " gave up, pauses"
	}
	if e.Repeats > 0 {
		what += fmt.Sprintf(" × %d", uint64(e.Repeats)+1)
	}
	task, isTitle := strings.CutPrefix(embed.Title, kind.symbol+" ")
	task, says := strings.CutSuffix(task, what)
	require.True(t, isTitle && says, "%q", embed.Title)
	if e.Task == "" {
		assert.Equal(t, "several tasks", task)
	} else {
		checkShown(t, e.Task, task, false, maxTitle-length(kind.symbol+" "+what))
	}
	assert.Equal(t, kind.color, embed.Color)
	at := ""
	if year := e.Time.UTC().Year(); year >= 2000 && year <= 9999 {
		at = e.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	assert.Equal(t, at, embed.Timestamp)

	err := e.Err
	if gaveUp, ok := err.(*taskmanager.GiveUpError); ok { //nolint:errorlint // the event's own
		err = gaveUp.Err
	}
	stack := ""
	if stuck, ok := err.(*taskmanager.StopTimeoutError); ok { //nolint:errorlint // likewise
		stack = firstFrames(readable(string(stuck.Stack)))
	}
	rest := checkBlock(t, err.Error(), embed.Description, 1000, true, "The error has no text.")
	rest = checkBlock(t, stack, rest, 1500, false, "")
	assert.Empty(t, rest)

	var names []string
	add := func(ok bool, name string) {
		if ok {
			names = append(names, name)
		}
	}
	failure := e.Kind == taskmanager.EventFailed || e.Kind == taskmanager.EventGaveUp
	pass := e.Kind == taskmanager.EventPassGaveUp
	add(e.Task != "" && e.Run > 0, "Run")
	add(e.Task != "" && (failure || pass) && e.Window > 0, "Restarts")
	add(e.Task != "" && failure, "Next attempt")
	add(e.Task != "" && pass && e.Delay > 0, "Next pass")
	add(e.Task != "" && e.Kind == taskmanager.EventRecovered, "Failures")
	add(e.Task != "" && e.Uptime > 0, "Uptime")
	add(c.Host != "", "Host")
	add(e.Manager != "", "Manager")
	add(len(e.Dependents) > 0, "Waiting for it")
	add(e.Repeats > 0, "Merged")
	var got []string
	for _, f := range embed.Fields {
		got = append(got, f.Name)
		switch f.Name {
		case "Run":
			assert.Equal(t, strconv.FormatUint(e.Run, 10), f.Value)
		case "Restarts":
			assert.True(t, strings.HasPrefix(f.Value, strconv.Itoa(e.Restarts)+" of "), f.Value)
		case "Failures":
			assert.True(t, f.Value == strconv.Itoa(e.Failures) || strings.HasPrefix(f.Value, strconv.Itoa(e.Failures)+" within "), f.Value)
		case "Host":
			checkShown(t, c.Host, strings.Trim(f.Value, "`"), false, 256-len("``"))
		case "Manager":
			checkShown(t, e.Manager, strings.Trim(f.Value, "`"), false, 256-len("``"))
		case "Merged":
			assert.True(t, strings.HasPrefix(f.Value, fmt.Sprintf("%d %s", uint64(e.Repeats)+1, kind.plural)), f.Value)
		}
	}
	assert.Equal(t, names, got)
}

// checkBlock asserts that description begins with a code block of text that takes up at most most, or with none if there is nothing to
// see in text. It returns what follows.
func checkBlock(t *testing.T, text, description string, most int, cutInMiddle bool, none string) string {
	t.Helper()
	const begin, end = "```\n", "\n```"
	if strings.TrimSpace(visible(text, true)) == "" {
		rest, ok := strings.CutPrefix(description, none)
		assert.True(t, ok, "%q", description)
		return rest
	}
	block, begins := strings.CutPrefix(description, begin)
	block, rest, ends := strings.Cut(block, end)
	require.True(t, begins && ends, "%q", description)
	if shortened := most - len(begin) - len(end); cutInMiddle {
		checkMiddleCut(t, text, block, shortened)
	} else {
		checkShown(t, text, block, true, shortened)
	}
	return rest
}

// checkMiddleCut asserts that shown is text, or if that takes up more than most, as much of its beginning and of its end as fits.
func checkMiddleCut(t *testing.T, text, shown string, most int) {
	t.Helper()
	want, got := visible(text, true), lookalikes.Replace(shown)
	if want == got {
		return
	}
	assert.Greater(t, length(want), most, "%q fits in", text)
	assert.GreaterOrEqual(t, length(got), most-2, "%q leaves room for more than one character", got)
	beginning, end := 0, 0
	for strings.HasPrefix(want, got[:beginning]) && beginning < len(got) {
		beginning++
	}
	for strings.HasSuffix(want, got[len(got)-end:]) && end < len(got) {
		end++
	}
	const gap = len(" … ")
	assert.LessOrEqual(t, len(got)-(beginning-1)-(end-1), gap, "%q is shown as %q", text, shown)
}

// checkShown asserts that shown is text, or if that takes up more than most, as much of it as fits and an ellipsis.
func checkShown(t *testing.T, text, shown string, lines bool, most int) {
	t.Helper()
	want, got := visible(text, lines), shown
	got = strings.ReplaceAll(got, "\u200B", "") // of titles, to take away the meaning of what is around
	got = lookalikes.Replace(got)
	if want == got {
		return
	}
	beginning, isCut := strings.CutSuffix(got, "…")
	rest, begins := strings.CutPrefix(want, beginning)
	assert.True(t, isCut && begins, "%q is shown as %q", text, shown)
	for _, next := range rest {
		assert.Greater(t, length(shown)+units(next), most, "%q fits in after %q", next, shown)
		break
	}
}

// lookalikes replaces what is shown in place of characters that mean something to Discord.
var lookalikes = strings.NewReplacer("ˋ", "`", "∗", "*", "ˍ", "_")

// visible returns what is to be seen of text, in one line or several.
func visible(text string, lines bool) string {
	var b strings.Builder
	text = strings.ToValidUTF8(strings.ReplaceAll(text, secret, "[redacted]"), "\uFFFD")
	for i, r := range text {
		switch {
		case r == '\r' && strings.HasPrefix(text[i+1:], "\n"): // one end of a line
		case strings.ContainsRune("\n\r\v\f\u0085\u2028\u2029", r):
			b.WriteByte('\n')
		case r != '\t' && hidden(r), r == '\u200B':
			b.WriteRune('\uFFFD')
		default:
			b.WriteRune(r)
		}
	}
	if lines {
		return lookalikes.Replace(strings.Trim(b.String(), "\n"))
	}
	return lookalikes.Replace(strings.NewReplacer("\n", " ", "\t", " ").Replace(b.String()))
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
	namesForm     = regexp.MustCompile("^`[^`]+`(, `[^`]+`)*( and [0-9]+ more)?$")
	valueForms    = map[string]*regexp.Regexp{
		"Run":            regexp.MustCompile(`^[0-9]+$`),
		"Restarts":       regexp.MustCompile(`^-?[0-9]+ of (-?[0-9]+|unlimited) within [0-9.µa-z]+$`),
		"Next attempt":   regexp.MustCompile(`^(none|at once|<t:[0-9]+:R>|in -?[0-9.µa-z]+)$`),
		"Next pass":      regexp.MustCompile(`^(<t:[0-9]+:R>|in [0-9.µa-z]+)$`),
		"Failures":       regexp.MustCompile(`^-?[0-9]+( within [0-9.µa-z]+)?$`),
		"Uptime":         regexp.MustCompile(`^[0-9.µa-z]+$`),
		"Host":           regexp.MustCompile("^`[^`]+`$"),
		"Manager":        regexp.MustCompile("^`[^`]+`$"),
		"Tasks":          namesForm,
		"Waiting for it": namesForm,
		"Merged":         regexp.MustCompile(`^[0-9]+ [a-z ]+ ?(since <t:[0-9]+:T>)?, this is the latest$`),
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
func checkMessage(t *testing.T, m *Body) {
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
	var again Body
	require.NoError(t, json.Unmarshal(text, &again))
	assert.Equal(t, *m, again)
	assert.Equal(t, allowed, again.AllowedMentions)
}
