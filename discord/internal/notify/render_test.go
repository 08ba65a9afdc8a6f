package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

const (
	roleID = "165511591545143296"
	userID = "80351110224678912"
)

// noon is when the events of these tests happened.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 250e6, time.UTC)

// newRenderer returns a Notifier that is not to send.
func newRenderer(t testing.TB, c Config) *Notifier {
	t.Helper()
	n, err := New(c, nil)
	require.NoError(t, err)
	return n
}

// Render renders the message of those of the events that fit, and returns how many these are.
func (n *Notifier) Render(events []taskmanager.Event) (*Body, int) {
	m, taken := n.pack(events)
	if m == nil {
		return nil, taken
	}
	return m.Body(), taken
}

// shown is what the message for events is in JSON, all of which must fit in it.
func shown(t *testing.T, c Config, events ...taskmanager.Event) string {
	t.Helper()
	m, taken := newRenderer(t, c).Render(events)
	require.Equal(t, len(events), taken)
	text, err := json.Marshal(m)
	require.NoError(t, err)
	return string(text)
}

// failed is an event of a restart.
func failed() taskmanager.Event {
	return taskmanager.Event{
		Time: noon, Manager: "billing", Task: "consumer", Kind: taskmanager.EventFailed, Run: 3,
		Err: errors.New("connection refused"), Delay: 4500 * time.Millisecond,
		Restarts: 2, MaxRestarts: 5, Window: time.Minute, Uptime: 300474892,
	}
}

// gaveUp is an event of a giving up because of too many restarts.
func gaveUp() taskmanager.Event {
	e := failed()
	e.Kind, e.Run, e.Delay, e.Restarts = taskmanager.EventGaveUp, 6, 0, 5
	e.Err = &taskmanager.GiveUpError{Task: e.Task, Restarts: 5, Window: time.Minute, Err: e.Err}
	return e
}

// recovered is an event of a task that has failed twice within 8 s before the run that is healthy.
func recovered() taskmanager.Event {
	return taskmanager.Event{
		Time: noon, Manager: "billing", Task: "consumer", Kind: taskmanager.EventRecovered, Run: 3, MaxRestarts: 5, Window: time.Minute,
		Uptime: time.Minute, Failures: 2, FailedSince: noon.Add(-68 * time.Second),
	}
}

func TestRenderRecovery(t *testing.T) {
	assert.JSONEq(t, `{
		"embeds": [{
			"title": "💚 consumer recovered",
			"timestamp": "2026-11-24T12:00:00.250Z",
			"color": 3066993,
			"fields": [
				{"name": "Run", "value": "3", "inline": true},
				{"name": "Failures", "value": "2 within 8s", "inline": true},
				{"name": "Uptime", "value": "1m", "inline": true},
				{"name": "Manager", "value": "`+"`billing`"+`", "inline": true}
			]
		}],
		"allowed_mentions": {"parse": []}
	}`, shown(t, Config{}, recovered()))

	// Of a pass there is no healthy time before it; and what somebody has made may say nothing.
	for _, since := range []time.Time{{}, noon} {
		e := recovered()
		e.FailedSince = since
		assert.Contains(t, shown(t, Config{}, e), `"value":"2"`)
	}
	e := recovered()
	e.Task, e.Tasks, e.TaskCount, e.Repeats, e.Since = "", []string{"a", "b"}, 5000, 4999, noon.Add(-time.Minute)
	e.Run, e.Failures, e.FailedSince, e.Uptime = 0, 0, time.Time{}, 0
	text := shown(t, Config{}, e)
	assert.Contains(t, text, "💚 5000 tasks recovered\"")
	assert.NotContains(t, text, "Failures")
}

// A pass that is given up says when the next one is, and mentions nobody: the task lives on.
func TestRenderAPassGivenUp(t *testing.T) {
	e := gaveUp()
	e.Kind, e.Delay = taskmanager.EventPassGaveUp, 59*time.Second
	mentions := Config{MentionRole: roleID, MentionUser: userID}
	assert.JSONEq(t, `{
		"embeds": [{
			"title": "🟠 consumer failed in a pass for good, goes on with the next",
			"description": "`+"```\\nconnection refused\\n```"+`",
			"timestamp": "2026-11-24T12:00:00.250Z",
			"color": 15227148,
			"fields": [
				{"name": "Run", "value": "6", "inline": true},
				{"name": "Restarts", "value": "5 of 5 within 1m", "inline": true},
				{"name": "Next pass", "value": "<t:1795521660:R>", "inline": true},
				{"name": "Uptime", "value": "300.5ms", "inline": true},
				{"name": "Manager", "value": "`+"`billing`"+`", "inline": true}
			]
		}],
		"allowed_mentions": {"parse": []}
	}`, shown(t, mentions, e))

	e.Delay = 0 // of a schedule that has no further time
	assert.NotContains(t, shown(t, mentions, e), "Next")
}

func TestRenderRestart(t *testing.T) {
	assert.JSONEq(t, `{
		"username": "Watch",
		"avatar_url": "https://example.com/a.png",
		"embeds": [{
			"title": "🔄 consumer failed, will restart",
			"description": "`+"```\\nconnection refused\\n```"+`",
			"timestamp": "2026-11-24T12:00:00.250Z",
			"color": 15835658,
			"fields": [
				{"name": "Run", "value": "3", "inline": true},
				{"name": "Restarts", "value": "2 of 5 within 1m", "inline": true},
				{"name": "Next attempt", "value": "<t:1795521605:R>", "inline": true},
				{"name": "Uptime", "value": "300.5ms", "inline": true},
				{"name": "Host", "value": "`+"`web-1`"+`", "inline": true},
				{"name": "Manager", "value": "`+"`billing`"+`", "inline": true}
			]
		}],
		"allowed_mentions": {"parse": []}
	}`, shown(t, Config{
		Username: "Watch", AvatarURL: "https://example.com/a.png", Host: "web-1",
		MentionRole: roleID, MentionUser: userID, // for a giving up alone
	}, failed()))
}

// Nobody is mentioned without having been named by an option.
func TestRenderGivingUp(t *testing.T) {
	assert.JSONEq(t, `{
		"embeds": [{
			"title": "🛑 consumer failed for good, gave up",
			"description": "`+"```\\nconnection refused\\n```"+`",
			"timestamp": "2026-11-24T12:00:00.250Z",
			"color": 14691115,
			"fields": [
				{"name": "Run", "value": "6", "inline": true},
				{"name": "Restarts", "value": "5 of 5 within 1m", "inline": true},
				{"name": "Next attempt", "value": "none", "inline": true},
				{"name": "Uptime", "value": "300.5ms", "inline": true},
				{"name": "Manager", "value": "`+"`billing`"+`", "inline": true}
			]
		}],
		"allowed_mentions": {"parse": []}
	}`, shown(t, Config{}, gaveUp()))
}

func TestRenderMentions(t *testing.T) {
	for _, c := range []struct{ role, user, content, allowed string }{
		{"", "", ``, `{"parse":[]}`},
		{roleID, "", `<@&` + roleID + `>`, `{"parse":[],"roles":["` + roleID + `"]}`},
		{"", userID, `<@` + userID + `>`, `{"parse":[],"users":["` + userID + `"]}`},
		{roleID, userID, `<@&` + roleID + `> <@` + userID + `>`, `{"parse":[],"roles":["` + roleID + `"],"users":["` + userID + `"]}`},
	} {
		n := newRenderer(t, Config{MentionRole: c.role, MentionUser: c.user})
		// One of those in the message is enough, wherever it is.
		m, taken := n.Render([]taskmanager.Event{failed(), gaveUp(), failed()})
		assert.Equal(t, 3, taken)
		assert.Equal(t, c.content, m.Content)
		allowed, err := json.Marshal(m.AllowedMentions)
		require.NoError(t, err)
		assert.JSONEq(t, c.allowed, string(allowed))
	}
}

func TestRenderMerged(t *testing.T) {
	e := failed()
	e.Repeats, e.Since = 12, e.Time.Add(-time.Minute)
	m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "🔄 consumer failed, will restart × 13", m.Embeds[0].Title)
	assert.Equal(t, fmt.Sprintf("13 failures since <t:%d:T>, this is the latest", e.Time.Unix()-60), valueOf(m.Embeds[0], "Merged"))
	assert.Equal(t, "3", valueOf(m.Embeds[0], "Run"))
}

// Beyond a thousand tasks that wait for the reporter, their events are merged by kind alone. What
// belongs to the latest of them is not told as if it were about all.
func TestRenderSeveralTasks(t *testing.T) {
	e := failed()
	e.Task, e.Run, e.Repeats = "", 0, 2999
	m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "🔄 several tasks failed, will restart × 3000", m.Embeds[0].Title)
	var names []string
	for _, f := range m.Embeds[0].Fields {
		names = append(names, f.Name)
	}
	assert.Equal(t, []string{"Manager", "Merged"}, names)
}

// Tasks that fail together, with the same error, are told together.
func TestRenderTasksTogether(t *testing.T) {
	e := failed()
	e.Task, e.Run, e.Repeats, e.Since = "", 0, 36, noon.Add(-time.Minute)
	e.TaskCount, e.Tasks = 37, []string{"a", "b`", "c"}
	m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "🔄 37 tasks failed, will restart", m.Embeds[0].Title)
	assert.Equal(t, "```\nconnection refused\n```", m.Embeds[0].Description)
	assert.Equal(t, "`a`, `bˋ`, `c` and 34 more", valueOf(m.Embeds[0], "Tasks"))
	assert.Equal(t, fmt.Sprintf("37 failures since <t:%d:T>, this is the latest", noon.Unix()-60), valueOf(m.Embeds[0], "Merged"))
	assert.Empty(t, valueOf(m.Embeds[0], "Next attempt"))

	e.Repeats = 99
	m, _ = newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "🔄 37 tasks failed, will restart × 100", m.Embeds[0].Title)
}

func TestRenderDependents(t *testing.T) {
	e := gaveUp()
	e.Dependents, e.DependentCount = []string{"a", "b"}, 5
	m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "`a`, `b` and 3 more", valueOf(m.Embeds[0], "Waiting for it"))
	e.DependentCount = 2
	m, _ = newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "`a`, `b`", valueOf(m.Embeds[0], "Waiting for it"))
}

// What there is no room for is counted.
func TestRenderLongNames(t *testing.T) {
	e := gaveUp()
	e.Dependents, e.DependentCount = slices.Repeat([]string{strings.Repeat("x", 60)}, 10), 12
	m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	name := "`" + strings.Repeat("x", 60) + "`"
	assert.Equal(t, name+", "+name+", "+name+" and 9 more", valueOf(m.Embeds[0], "Waiting for it"))
	e.Dependents[0] = strings.Repeat("x", 1000)
	m, _ = newRenderer(t, Config{}).Render([]taskmanager.Event{e})
	assert.Equal(t, "`"+strings.Repeat("x", 197)+"…` and 11 more", valueOf(m.Embeds[0], "Waiting for it"))
}

// The stack of a panic is that of a real one: nobody else can make it.
func TestRenderPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		defer func() { assert.NoError(t, m.Shutdown(context.Background())) }()
		task, err := m.StartTask("worker", func(context.Context) error { return descend(20) }, taskmanager.WithMaxRestarts(0))
		require.NoError(t, err)
		err = task.Wait(context.Background())

		e := gaveUp()
		e.Err = err
		message, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
		blocks := strings.Split(message.Embeds[0].Description, "``````")
		require.Len(t, blocks, 2)
		assert.Equal(t, "```\ntaskmanager: panic: too deep\n", blocks[0])
		lines := strings.Split(blocks[1], "\n")
		require.Len(t, lines, 1+2*maxFrames+1+1)
		assert.Equal(t, "github.com/go-taskmanager/taskmanager/discord/internal/notify.descend(...)", lines[1])
		assert.Regexp(t, `^\t.*/render_test\.go:\d+$`, lines[2])
		assert.Regexp(t, `^… and \d+ calls more$`, lines[1+2*maxFrames])
	})
}

// descend panics n calls below this one.
func descend(n int) error {
	if n == 0 {
		panic("too deep")
	}
	return descend(n - 1)
}

func TestRenderStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		release := make(chan struct{})
		_, err = m.StartTask("feed", func(context.Context) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		synctest.Wait() // until the body has been entered
		err = m.Shutdown(context.Background())
		require.Error(t, err)
		close(release)

		e := taskmanager.Event{Time: noon, Task: "feed", Kind: taskmanager.EventStuck, Run: 1, Err: err, Uptime: 90 * time.Minute}
		message, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
		embed := message.Embeds[0]
		assert.Equal(t, "⏳ feed stuck: asked to stop, still running", embed.Title)
		assert.Equal(t, "1h30m", valueOf(embed, "Uptime"))
		assert.Regexp(t, "^```\ntaskmanager: task \"feed\" did not stop within 5s\n```"+
			"```\n1 goroutine:\n"+
			`github.com/go-taskmanager/taskmanager/discord/internal/notify.TestRenderStuck.func1.1\(...\)`+"\n\t"+
			`.*/render_test\.go:\d+`+"\n", embed.Description)
		assert.NotContains(t, embed.Description, "0x")
	})
}

func TestRenderError(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"a nil return", &taskmanager.GiveUpError{Task: "a"}, "Its last run returned nil."},
		{"no text", errors.New(""), "The error has no text."},
		{"nothing to see", errors.New(" \n\t"), "The error has no text."},
		{"empty lines around", errors.New("\n\na\n\nb\n"), "```\na\n\nb\n```"},
		{"Error panics", panickingError{}, "```\nnotify.panickingError, whose Error method panicked\n```"},
		{"As panics", unwrapPanicsError{}, "```\nfine so far\n```"},
		{"typed nil", (*taskmanager.GiveUpError)(nil), "```\n*taskmanager.GiveUpError, whose Error method panicked\n```"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := gaveUp()
			e.Err = c.err
			m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
			assert.Equal(t, c.want, m.Embeds[0].Description)
		})
	}
}

type panickingError struct{}

func (panickingError) Error() string { panic("no text") }

type unwrapPanicsError struct{}

func (unwrapPanicsError) Error() string { return "fine so far" }

func (unwrapPanicsError) Unwrap() error { panic("and no further") }

func TestRenderFields(t *testing.T) {
	for _, c := range []struct {
		name, field, want string
		change            func(*taskmanager.Event)
	}{
		{"no delay", "Next attempt", "at once", func(e *taskmanager.Event) { e.Delay = 0 }},
		{"unlimited", "Restarts", "2 of unlimited within 1m", func(e *taskmanager.Event) { e.MaxRestarts = taskmanager.Unlimited }},
		{"no window", "Restarts", "", func(e *taskmanager.Event) { e.Window = 0 }},
		{"before the first run", "Run", "", func(e *taskmanager.Event) { e.Run = 0 }},
		{"completed", "Next attempt", "", func(e *taskmanager.Event) { e.Kind = taskmanager.EventCompleted }},
		{"no uptime", "Uptime", "", func(e *taskmanager.Event) { e.Uptime = 0 }},
		{"not merged", "Merged", "", func(*taskmanager.Event) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := failed()
			c.change(&e)
			m, _ := newRenderer(t, Config{}).Render([]taskmanager.Event{e})
			assert.Equal(t, c.want, valueOf(m.Embeds[0], c.field))
		})
	}
}

func valueOf(e Embed, field string) string {
	for _, f := range e.Fields {
		if f.Name == field {
			return f.Value
		}
	}
	return ""
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1:                             "1ns",
		1234:                          "1.2µs",
		300474892:                     "300.5ms",
		12345 * time.Millisecond:      "12.3s",
		90*time.Second + 499e6:        "1m30s",
		time.Minute:                   "1m",
		time.Hour:                     "1h",
		90 * time.Minute:              "1h30m",
		30*time.Hour + 10*time.Second: "30h0m10s",
	} {
		assert.Equal(t, want, duration(d))
	}
}

// The time of an event that somebody has made without one is not a date that Discord takes.
func TestRenderWithoutTime(t *testing.T) {
	e := failed()
	e.Time = time.Time{}
	text := shown(t, Config{}, e)
	assert.NotContains(t, text, "timestamp")
	assert.NotContains(t, text, "<t:")
	assert.Contains(t, text, `"in 4.5s"`)

	e.Time, e.Delay = noon, math.MaxInt64
	assert.NotContains(t, shown(t, Config{}, e), "<t:", "nobody will see that day")
}

// What begins afresh after a while is not said to be over, and when that will be is told, unless it is of several tasks.
func TestRenderGivingUpForAWhile(t *testing.T) {
	e := gaveUp()
	e.Delay = time.Hour
	text := shown(t, Config{}, e)
	assert.Contains(t, text, `"🛑 consumer gave up, pauses"`)
	assert.Contains(t, text, `"Next attempt"`)
	assert.Contains(t, text, "t:1795525201:R")
	e.Task, e.TaskCount, e.Repeats = "", 3, 2
	text = shown(t, Config{}, e)
	assert.Contains(t, text, `"🛑 3 tasks gave up, pauses"`)
	assert.NotContains(t, text, "Next attempt")
}

// Each kind is told in words, a symbol and a color of its own, and none is forgotten.
func TestRenderKinds(t *testing.T) {
	seen := make(map[string]bool)
	for k := taskmanager.EventStarted; k.String() != "unknown"; k++ {
		m, taken := newRenderer(t, Config{}).Render([]taskmanager.Event{{Time: noon, Task: "a", Kind: k}})
		require.NotNil(t, m, k.String())
		assert.Equal(t, 1, taken)
		assert.False(t, seen[m.Embeds[0].Title], m.Embeds[0].Title)
		seen[m.Embeds[0].Title] = true
	}
	assert.Len(t, seen, len(kinds))
	assert.NotEqual(t, kinds[taskmanager.EventFailed].color, kinds[taskmanager.EventGaveUp].color)
	assert.NotEqual(t, kinds[taskmanager.EventFailed].symbol, kinds[taskmanager.EventGaveUp].symbol)
}

// Kinds that are not wanted count as delivered, those after the last embed included.
func TestRenderWantedKinds(t *testing.T) {
	n := newRenderer(t, Config{Events: []taskmanager.EventKind{taskmanager.EventGaveUp}})
	m, taken := n.Render([]taskmanager.Event{failed(), failed()})
	assert.Nil(t, m)
	assert.Equal(t, 2, taken)
	m, taken = n.Render([]taskmanager.Event{failed(), gaveUp(), failed()})
	assert.Len(t, m.Embeds, 1)
	assert.Equal(t, 3, taken)

	all := newRenderer(t, Config{})
	m, taken = all.Render([]taskmanager.Event{{Time: noon, Task: "a", Kind: 99}})
	assert.Nil(t, m, "a kind that does not exist")
	assert.Equal(t, 1, taken)
}

// As many events as fit go out in one message: 10 at most, or what takes up 6000 characters.
func TestRenderSeveralEvents(t *testing.T) {
	n := newRenderer(t, Config{})
	var small, large []taskmanager.Event
	for i := range 25 {
		e := failed()
		e.Task = fmt.Sprintf("task-%d", i)
		small = append(small, e)
		e.Err = errors.New(strings.Repeat("x", 10<<10))
		large = append(large, e)
	}
	m, taken := n.Render(small)
	assert.Equal(t, 10, taken)
	assert.Len(t, m.Embeds, 10)
	assert.Equal(t, "🔄 task-9 failed, will restart", m.Embeds[9].Title)

	m, taken = n.Render(large)
	assert.Equal(t, 5, taken, "of about 1100 each")
	assert.Len(t, m.Embeds, 5)
	total := 0
	for _, e := range m.Embeds {
		total += e.size()
	}
	assert.LessOrEqual(t, total, maxTotal)
	assert.Greater(t, total+m.Embeds[0].size(), maxTotal, "no other would have fit")

	// What does not fit any more is not jumped over.
	big := large[0]
	m, taken = n.Render([]taskmanager.Event{big, big, big, big, big, big, small[0]})
	assert.Equal(t, 5, taken)
	assert.Len(t, m.Embeds, 5)
}

// Everything that comes from elsewhere, as long as it gets, stays within the limits and is cut
// between characters.
func TestRenderLimits(t *testing.T) {
	for _, unit := range []string{"x", "é", "世", "🧨", "👩‍🚒", "`", "@", "\xff", "\x00", "\n", "](", "<"} {
		e := gaveUp()
		e.Task, e.Manager = strings.Repeat(unit, 3000), strings.Repeat(unit, 3000)
		e.Repeats = math.MaxInt - 1
		e.Tasks, e.TaskCount = slices.Repeat([]string{strings.Repeat(unit, 3000)}, 10), math.MaxInt
		e.Dependents, e.DependentCount = e.Tasks, math.MaxInt
		e.Err = &taskmanager.StopTimeoutError{
			Task:  strings.Repeat(unit, 10<<10),
			Stack: []byte("#\t0x1\t" + strings.Repeat(unit, 10<<10) + "\t" + strings.Repeat(unit, 10<<10)),
		}
		n := newRenderer(t, Config{Host: strings.Repeat("世", 3000), MentionRole: roleID, MentionUser: userID})
		m, taken := n.Render([]taskmanager.Event{e})
		require.Equal(t, 1, taken)
		checkMessage(t, m)
	}
}
