package notify

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// kinds says how each kind of event is told. Symbol and color tell a failure that is followed by a
// restart from one that is not.
var kinds = map[taskmanager.EventKind]struct {
	symbol string
	what   string // happened to the task
	plural string // of what a merged report counts
	color  int
}{
	taskmanager.EventStarted:    {"▶️", "started", "starts", 0x3498DB},
	taskmanager.EventReady:      {"▶️", "ready", "runs that got ready", 0x3498DB},
	taskmanager.EventFailed:     {"🔄", "failed, will restart", "failures", 0xF1A20A},
	taskmanager.EventGaveUp:     {"🛑", "failed for good, gave up", "final failures", 0xE02B2B},
	taskmanager.EventCompleted:  {"✅", "completed", "completions", 0x2ECC71},
	taskmanager.EventStopped:    {"⏹️", "stopped", "stops", 0x95A5A6},
	taskmanager.EventPassGaveUp: {"🟠", "failed in a pass for good, goes on with the next", "passes that failed for good", 0xE8590C},
	taskmanager.EventStuck:      {"⏳", "stuck: asked to stop, still running", "stops that found it stuck", 0x9B59B6},
	taskmanager.EventPaused:     {"⏸️", "paused", "pauses", 0x95A5A6},
	taskmanager.EventResumed:    {"▶️", "resumed", "resumptions", 0x3498DB},
	taskmanager.EventRecovered:  {"💚", "recovered", "recoveries", 0x2ECC71},
	taskmanager.EventTriggered:  {"▶️", "pass triggered", "triggers", 0x3498DB},
}

func known(k taskmanager.EventKind) bool {
	_, ok := kinds[k]
	return ok
}

// pack returns a message about events from the first one on, as many as fit, and how many these are,
// those included that are not to be sent. It returns nil if none of them is.
func (n *Notifier) pack(events []taskmanager.Event) (m *Message, taken int) {
	r := renderer{config: &n.config, redact: n.redactor()}
	var (
		packed []taskmanager.Event
		total  int
	)
	for i := range events {
		e := &events[i]
		if n.wants(e.Kind) {
			embed := r.embed(e)
			total += embed.size()
			if len(packed) == maxEmbeds || total > maxTotal {
				break
			}
			packed = append(packed, *e)
		}
		taken++
	}
	if len(packed) == 0 {
		return nil, taken
	}
	return n.newMessage(packed), taken
}

func (n *Notifier) wants(k taskmanager.EventKind) bool {
	return known(k) && (n.config.Events == nil || slices.Contains(n.config.Events, k))
}

// A renderer renders events.
type renderer struct {
	config *Config
	redact func(string) string // takes the secrets out of a text
	bare   bool                // without the texts of errors
}

// body renders the message that shows events.
func (r *renderer) body(events []taskmanager.Event) *Body {
	b := &Body{
		Username:        r.config.Username,
		AvatarURL:       r.config.AvatarURL,
		ThreadName:      r.config.ThreadName,
		AllowedMentions: AllowedMentions{Parse: []string{}},
	}
	final := false
	for i := range events {
		b.Embeds = append(b.Embeds, r.embed(&events[i]))
		final = final || events[i].Kind == taskmanager.EventGaveUp
	}
	if final {
		r.mention(b)
	}
	return b
}

// mention makes the message notify those who are to know of tasks that were given up. Only the
// content notifies; embeds never do.
func (r *renderer) mention(b *Body) {
	var mentions []string
	if id := r.config.MentionRole; id != "" {
		mentions = append(mentions, "<@&"+id+">")
		b.AllowedMentions.Roles = []string{id}
	}
	if id := r.config.MentionUser; id != "" {
		mentions = append(mentions, "<@"+id+">")
		b.AllowedMentions.Users = []string{id}
	}
	b.Content = strings.Join(mentions, " ")
}

// embed renders one event. Each of its parts is bounded so that all of them together fit in a
// message, and that usually several events do.
func (r *renderer) embed(e *taskmanager.Event) Embed {
	kind := kinds[e.Kind]
	what := " " + kind.what
	if cools(e) {
		what = " gave up, pauses"
	}
	if e.Repeats > 0 && stands(e) != uint64(e.TaskCount) { // more than once each
		what += " × " + strconv.FormatUint(stands(e), 10)
	}
	task := "several tasks"
	switch {
	case e.Task != "":
		task = plain(r.redact(e.Task), maxTitle-length(kind.symbol+" "+what))
	case e.TaskCount > 1:
		task = strconv.Itoa(e.TaskCount) + " tasks"
	}
	return Embed{
		Title:       kind.symbol + " " + task + what,
		Description: r.description(e),
		Timestamp:   timestamp(e.Time),
		Color:       kind.color,
		Fields:      r.fields(e),
	}
}

// cools reports whether the task was given up for a while only.
func cools(e *taskmanager.Event) bool { return e.Kind == taskmanager.EventGaveUp && e.Delay > 0 }

// stands is how many events e stands for.
func stands(e *taskmanager.Event) uint64 { return 1 + uint64(e.Repeats) }

// description is the error, and the beginning of its stack.
func (r *renderer) description(e *taskmanager.Event) string {
	const maxError, maxStack = 1000, 1500
	err := e.Err
	if gaveUp, ok := err.(*taskmanager.GiveUpError); ok && gaveUp != nil { //nolint:errorlint // the event's own
		err = gaveUp.Err // the title and the fields say the rest
		if err == nil {
			return "Its last run returned nil."
		}
	}
	if err == nil {
		return ""
	}
	if r.bare {
		return "The error is not shown: its text was refused."
	}
	text := block(r.redact(errorText(err)), maxError, cutMiddle)
	if text == "" {
		text = "The error has no text."
	}
	return text + block(r.redact(stackOf(err)), maxStack, cut)
}

func (r *renderer) fields(e *taskmanager.Event) (fields []Field) {
	add := func(name, value string) {
		fields = append(fields, Field{Name: name, Value: value, Inline: true})
	}
	// What belongs to one run is not told of several tasks.
	if e.Task != "" {
		if e.Run > 0 {
			add("Run", strconv.FormatUint(e.Run, 10))
		}
		if e.Window > 0 && (e.Kind == taskmanager.EventFailed || e.Kind == taskmanager.EventGaveUp || e.Kind == taskmanager.EventPassGaveUp) {
			add("Restarts", restarts(e))
		}
		switch {
		case e.Kind == taskmanager.EventGaveUp && !cools(e):
			add("Next attempt", "none")
		case e.Kind == taskmanager.EventPassGaveUp && e.Delay > 0:
			add("Next pass", nextAttempt(e))
		case e.Kind == taskmanager.EventFailed && e.Delay == 0:
			add("Next attempt", "at once")
		case e.Kind == taskmanager.EventFailed, cools(e):
			add("Next attempt", nextAttempt(e))
		}
		if e.Kind == taskmanager.EventRecovered {
			add("Failures", failures(e))
		}
		if e.Uptime > 0 {
			add("Uptime", duration(e.Uptime))
		}
	}
	const maxName = 256
	if r.config.Host != "" {
		add("Host", code(r.redact(r.config.Host), maxName))
	}
	if e.Manager != "" {
		add("Manager", code(r.redact(e.Manager), maxName))
	}
	if len(e.Tasks) > 0 {
		fields = append(fields, Field{Name: "Tasks", Value: r.names(e.Tasks, e.TaskCount)})
	}
	if len(e.Dependents) > 0 {
		fields = append(fields, Field{Name: "Waiting for it", Value: r.names(e.Dependents, e.DependentCount)})
	}
	if e.Repeats > 0 {
		since := ""
		if timestamp(e.Since) != "" {
			since = fmt.Sprintf(" since <t:%d:T>", e.Since.Unix())
		}
		fields = append(fields, Field{
			Name:  "Merged",
			Value: fmt.Sprintf("%d %s%s, this is the latest", stands(e), kinds[e.Kind].plural, since),
		})
	}
	return fields
}

// names lists names, as many of them as there is room for, and says how many more there are of count.
func (r *renderer) names(names []string, count int) string {
	const most = 200
	var (
		b       strings.Builder
		written int
	)
	for _, name := range names {
		next := code(r.redact(name), most)
		if written > 0 && length(b.String()+", "+next) > most {
			break
		}
		if written > 0 {
			b.WriteString(", ")
		}
		b.WriteString(next)
		written++
	}
	if more := count - written; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// nextAttempt is when the next run begins.
func nextAttempt(e *taskmanager.Event) string {
	// Rounded up: what is to come must not show as a second ago.
	next := e.Time.Add(e.Delay).Add(time.Second - 1)
	if timestamp(e.Time) == "" || timestamp(next) == "" || next.Before(e.Time) {
		return "in " + duration(e.Delay)
	}
	return fmt.Sprintf("<t:%d:R>", next.Unix())
}

func restarts(e *taskmanager.Event) string {
	most := "unlimited"
	if e.MaxRestarts != taskmanager.Unlimited {
		most = strconv.Itoa(e.MaxRestarts)
	}
	return fmt.Sprintf("%d of %s within %s", e.Restarts, most, duration(e.Window))
}

// failures is how often the task had failed before it has recovered, and for how long.
func failures(e *taskmanager.Event) string {
	text := strconv.Itoa(e.Failures)
	if failing := e.Time.Add(-e.Uptime).Sub(e.FailedSince); failing > 0 && !e.FailedSince.IsZero() {
		text += " within " + duration(failing)
	}
	return text
}

// duration is d in Go's notation, without digits that nobody reads: 1m, 12.3s, 300ms.
func duration(d time.Duration) string {
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(time.Second / 10)
	case d >= time.Millisecond:
		d = d.Round(time.Millisecond / 10)
	case d >= time.Microsecond:
		d = d.Round(time.Microsecond / 10)
	}
	s := d.String()
	if rest, ok := strings.CutSuffix(s, "m0s"); ok {
		s = rest + "m"
	}
	if rest, ok := strings.CutSuffix(s, "h0m"); ok {
		s = rest + "h"
	}
	return s
}

// timestamp is t as Discord takes it, or empty for a time at which nothing can have happened: that
// of an event which somebody has made without one.
func timestamp(t time.Time) string {
	t = t.UTC()
	if t.Year() < 2000 || t.Year() > 9999 {
		return ""
	}
	return t.Format("2006-01-02T15:04:05.000Z")
}
