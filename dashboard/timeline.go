package dashboard

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// drawTimeline draws what is known of the runs of a task: its history, and the run that executes now. It is a figure, with an SVG and
// the key to it; or nothing, if no run is known.
//
// The picture is as wide as there is room for, and as high everywhere, and so are its texts: places along its axis are percentages. Times are
// to scale, as long as most of the runs can be seen then. Otherwise longer times are drawn shorter, by the logarithm, and what is much
// shorter has a break.
func drawTimeline(events []taskmanager.Event, s taskmanager.TaskStats, now time.Time) template.HTML {
	p := newPast(events, s, now)
	if len(p.spans) == 0 {
		return ""
	}
	d := timelineDrawing{axis: newAxis(p.spans)}
	d.figure(p)
	return template.HTML(d.String()) // every text in it is escaped by timelineDrawing.text
}

// A past is a history as spans, each of which begins where the one before ends, from the first run that is known until now.
type past struct {
	spans    []span
	marks    []mark
	runs     int
	failures int
}

// A span is a run, or the time between two, or a number of both.
type span struct {
	from, to time.Time // as the axis has them: also where the clock was set back, to is not before from
	runs     int       // that it stands for
	run      uint64    // the latest of them; 0 if that is not known
	state    string    // as a class: of a run, how it has ended
	word     string    // for that, in the key
	facts    []string  // for its tooltip
}

func (s *span) length() time.Duration { return s.to.Sub(s.from) }

// A mark is a moment.
type mark struct {
	at   time.Time
	sign sign
	fact string
}

// A sign is what a mark looks like. Of marks that are too near to each other the first one of these is shown.
type sign int

const (
	signGaveUp sign = iota
	signStuck
	signPanic
	signFailure
	signPaused
	signResumed
	signByHand
	signRecovered
)

var signs = [...]struct{ word, state, path string }{
	signGaveUp:    {"gave up", "failed", `<circle r="6"/><path class="in" d="M-2.5-2.5l5 5m0-5l-5 5"/>`},
	signStuck:     {"stuck", "stuck", `<path class="full" d="M-4.5-5.5h9l-9 11h9z"/>`},
	signPanic:     {"panic", "backoff", `<path class="full" d="M0-6l6 11h-12z"/><path class="in" d="M0-2v3m0 1.5v.5"/>`},
	signFailure:   {"failure", "backoff", `<path d="M-4-4l8 8m0-8l-8 8"/>`},
	signPaused:    {"paused", "paused", `<path d="M-2.5-4.5v9m5-9v9"/>`},
	signResumed:   {"resumed", "running", `<path class="full" d="M-3.5-5l8 5l-8 5z"/>`},
	signByHand:    {"by hand", "stopped", `<circle cy="-3" r="2.5"/><path class="full" d="M-5 5.5a5 4.5 0 0 1 10 0z"/>`},
	signRecovered: {"recovered", "running", `<path d="M-5 0l3.5 4l6.5-8"/>`},
}

// newPast makes a past of events, the oldest of them first, and of what the task does now.
func newPast(events []taskmanager.Event, s taskmanager.TaskStats, now time.Time) *past {
	var r pastReader
	for i := range events {
		r.read(&events[i])
	}
	r.finish(&s, now)
	r.share()
	return &r.past
}

// A pastReader reads events one after the other.
type pastReader struct {
	past

	open   *openRun // the run that executes, if any
	closed uint64   // the run that has ended last
	gap    span     // what the time is since then, without from and to
}

type openRun struct {
	run   uint64
	from  time.Time
	facts []string // what happened in it
}

func (r *pastReader) read(e *taskmanager.Event) {
	switch e.Kind {
	case taskmanager.EventStarted:
		if r.open != nil { // of its end there is no event
			r.end(e.Time, "stopped", "ended")
		}
		r.begin(e.Run, e.Time)
		r.byHand(e, "started")
	case taskmanager.EventReady:
		r.during(e, "ready")
	case taskmanager.EventFailed:
		how := "failed: " + errorKind(e.Err)
		r.failed(e, failureSign(e.Err), how)
		r.ended(e, "backoff", "failed", how)
		r.wait("backoff", "backoff of "+exactly(e.Delay))
	case taskmanager.EventPassGaveUp:
		how := "a pass was given up: " + errorKind(e.Err)
		r.failed(e, failureSign(e.Err), how)
		r.ended(e, "backoff", "failed", how)
		r.wait("waiting", "waiting")
	case taskmanager.EventGaveUp:
		how := "gave up: " + errorKind(e.Err)
		r.failed(e, signGaveUp, how)
		r.ended(e, "failed", "gave up", how)
		if r.wait("failed", "given up"); e.Delay > 0 {
			r.wait("paused", "given up for a cooldown of "+exactly(e.Delay))
		}
	case taskmanager.EventCompleted:
		r.ended(e, "completed", "completed", "completed")
		r.wait("completed", "completed")
	case taskmanager.EventStopped:
		how := cmp.Or(causeText(e.Cause), "stopped")
		r.byHand(e, how)
		r.ended(e, "stopped", "stopped", how)
		goesOn := e.Cause == taskmanager.ErrRestarted || e.Cause == taskmanager.ErrReplaced || lossOf(e.Cause) != nil //nolint:errorlint // errors of users are not asked
		if r.wait("stopped", how); goesOn {
			r.wait("waiting", "waiting")
		}
	case taskmanager.EventPaused:
		r.mark(e, signPaused, "paused")
		r.ended(e, "paused", "paused", "paused by hand")
		r.wait("paused", "paused by hand")
	case taskmanager.EventResumed:
		r.mark(e, signResumed, "resumed")
		r.pass(e.Time)
		r.wait("waiting", "waiting")
	case taskmanager.EventStuck:
		r.during(e, "stuck")
		r.mark(e, signStuck, "stuck, the body does not return")
	case taskmanager.EventRecovered:
		r.during(e, "recovered")
		r.mark(e, signRecovered, "recovered after "+counted(e.Failures, "failure"))
	case taskmanager.EventTriggered:
		r.byHand(e, "triggered a pass")
	}
}

// failed marks a failure.
func (r *pastReader) failed(e *taskmanager.Event, sign sign, how string) {
	r.failures++
	r.mark(e, sign, how)
}

// byHand marks what somebody has asked for, if that is known.
func (r *pastReader) byHand(e *taskmanager.Event, what string) {
	if e.By != "" {
		r.mark(e, signByHand, what)
	}
}

func (r *pastReader) mark(e *taskmanager.Event, sign sign, fact string) {
	if e.By != "" {
		fact += ", asked by " + e.By
	}
	if e.Run > 0 {
		fact = fmt.Sprintf("run %d, %s", e.Run, fact)
	}
	r.marks = append(r.marks, mark{e.Time, sign, moment(e.Time) + ": " + fact})
}

// during notes what has happened in a run. Where that began follows from e, should it not be known.
func (r *pastReader) during(e *taskmanager.Event, what string) {
	if r.open == nil && e.Run != r.closed {
		r.begin(e.Run, e.Time.Add(-e.Uptime))
	}
	if r.open != nil {
		r.open.facts = append(r.open.facts, what+" "+moment(e.Time))
	}
}

// ended ends the run of e. If none executed, or it has ended before, the time between two runs is another one from now on.
func (r *pastReader) ended(e *taskmanager.Event, state, word, how string) {
	executed := e.Uptime > 0 || e.Kind != taskmanager.EventStopped && e.Kind != taskmanager.EventPaused
	if r.open == nil && executed && e.Run != r.closed {
		r.begin(e.Run, e.Time.Add(-e.Uptime))
	}
	if r.open == nil {
		r.pass(e.Time)
		return
	}
	r.open.facts = slices.Insert(r.open.facts, 0, "uptime "+exactly(e.Uptime))
	if how != word {
		r.open.facts = slices.Insert(r.open.facts, 0, how)
	}
	r.end(e.Time, state, word)
}

func (r *pastReader) begin(run uint64, from time.Time) {
	r.pass(from)
	r.open = &openRun{run: run, from: from}
}

// end ends the run that is open.
func (r *pastReader) end(to time.Time, state, word string) {
	o := r.open
	title := "A run, " + word
	if o.run > 0 {
		title = fmt.Sprintf("Run %d, %s", o.run, word)
	}
	facts := append([]string{title, "from " + moment(o.from), "to " + moment(to)}, o.facts...)
	r.add(o.from, span{to: to, runs: 1, run: o.run, state: state, word: word, facts: facts})
	r.runs++
	r.open, r.closed = nil, o.run
	r.wait("waiting", "waiting")
}

// wait says what the time is until the next run begins.
func (r *pastReader) wait(state, fact string) {
	r.gap = span{state: state, word: state, facts: []string{fact}}
	if state == "failed" {
		r.gap.word = "given up" // a run has failed
	}
}

// pass ends the time between two runs. What was before the first one is not known.
func (r *pastReader) pass(to time.Time) {
	if len(r.spans) == 0 {
		return
	}
	from := r.spans[len(r.spans)-1].to
	g := r.gap
	g.to = to
	g.facts = append(slices.Clone(g.facts), "from "+moment(from), "to "+moment(to))
	r.add(from, g)
}

func (r *pastReader) add(from time.Time, s span) {
	s.from = from
	if n := len(r.spans); n > 0 {
		s.from = r.spans[n-1].to
	}
	if s.to.Before(s.from) {
		s.to = s.from
	}
	r.spans = append(r.spans, s)
}

// finish adds what the task does now.
func (r *pastReader) finish(s *taskmanager.TaskStats, now time.Time) {
	if r.open == nil && !s.RunStartedAt.IsZero() {
		r.begin(0, s.RunStartedAt)
	}
	state := s.State.String()
	if r.open != nil {
		r.open.facts = slices.Insert(r.open.facts, 0, "uptime "+exactly(max(0, now.Sub(r.open.from)))+" so far")
		r.end(now, state, state+" now")
		return
	}
	if r.wait(state, state); !s.NextRunAt.IsZero() {
		r.gap.facts[0] += ", next run " + moment(s.NextRunAt)
	}
	r.pass(now)
}

// Of more runs than mostBars, only the latest ownBars have bars of their own.
const (
	mostBars = 48
	ownBars  = 24
)

// share makes one span of several runs that follow each other, as often as it takes that no more than mostBars are left.
func (r *pastReader) share() {
	if r.runs <= mostBars {
		return
	}
	older := r.runs - ownBars
	each := (older + mostBars - ownBars - 1) / (mostBars - ownBars)
	var shared []span
	for i := 0; i < len(r.spans); {
		s := r.spans[i]
		i++
		if s.runs == 0 || older == 0 {
			shared = append(shared, s)
			continue
		}
		first, words := s, map[string]int{s.word: 1}
		for j := i; j < len(r.spans) && s.runs < min(each, older); j++ {
			next := &r.spans[j]
			if next.runs == 0 {
				continue
			}
			words[next.word]++
			if severity(next.state) > severity(s.state) {
				s.state, s.word = next.state, next.word
			}
			s.to, s.run, s.runs, i = next.to, next.run, s.runs+1, j+1
		}
		older -= s.runs
		s.facts = []string{fmt.Sprintf("Runs %d to %d", first.run, s.run), "from " + moment(s.from), "to " + moment(s.to)}
		for _, word := range slices.Sorted(maps.Keys(words)) {
			s.facts = append(s.facts, fmt.Sprintf("%d %s", words[word], word))
		}
		shared = append(shared, s)
	}
	r.spans = shared
}

// severity orders the states in which a run may have ended: of several runs the worst is shown.
func severity(state string) int {
	return slices.Index([]string{"completed", "stopped", "paused", "backoff", "failed"}, state)
}

// An axis is the scale of a picture: time to percent of its width.
type axis struct {
	spans      []span
	edges      []float64 // where each span begins, and where the last one ends
	compressed bool
	broken     []bool // spans that are drawn much shorter than others
}

const (
	leastBar   = 0.9  // percent of the width
	leastSpace = 0.35 // between two bars
	leastBreak = 5    // for a break to be seen
)

func newAxis(spans []span) *axis {
	a := &axis{spans: spans, broken: make([]bool, len(spans))}
	least, lengths := make([]float64, len(spans)), make([]float64, len(spans))
	shortest := math.Inf(1)
	bars := 0
	for i := range spans {
		least[i], lengths[i] = leastSpace, spans[i].length().Seconds()
		if spans[i].runs > 0 {
			least[i] = leastBar
			bars++
		}
		if lengths[i] > 0 {
			shortest = min(shortest, lengths[i])
		}
	}
	widths := fill(lengths, least)
	hidden := 0
	for i := range spans {
		if spans[i].runs > 0 && widths[i] < 1.01*leastBar {
			hidden++
		}
	}
	if hidden > max(2, bars/4) {
		a.compressed = true
		shortest = max(shortest, time.Millisecond.Seconds())
		weights := make([]float64, len(spans))
		for i := range spans {
			if weights[i] = math.Log1p(lengths[i] / shortest); spans[i].runs > 0 {
				weights[i]++
			}
		}
		widths = fill(weights, least)
		const much = 20
		middle := median(lengths)
		for i := range spans {
			a.broken[i] = lengths[i] > much*middle && widths[i] >= leastBreak
		}
	}
	x := 0.0
	for _, w := range widths {
		a.edges = append(a.edges, x)
		x += w
	}
	a.edges = append(a.edges, 100)
	return a
}

// fill divides 100 in proportion to weights, but gives each no less than its least, which together are less than 100.
func fill(weights, least []float64) []float64 {
	widths := make([]float64, len(weights))
	raised := make([]bool, len(weights))
	for {
		room, sum := 100.0, 0.0
		for i, w := range weights {
			if raised[i] {
				room -= least[i]
			} else {
				sum += w
			}
		}
		again := false
		for i, w := range weights {
			if raised[i] {
				continue
			}
			if sum > 0 {
				widths[i] = room * w / sum
			}
			if widths[i] < least[i] {
				widths[i], raised[i], again = least[i], true, true
			}
		}
		if !again {
			break
		}
	}
	total := 0.0 // less than 100 if all weights are 0
	for _, w := range widths {
		total += w
	}
	for i := range widths {
		widths[i] *= 100 / total
	}
	return widths
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// at returns the place of a moment.
func (a *axis) at(t time.Time) float64 {
	i, _ := slices.BinarySearchFunc(a.spans, t, func(s span, t time.Time) int { return s.to.Compare(t) })
	if i == len(a.spans) {
		return 100
	}
	s := &a.spans[i]
	if !t.After(s.from) || s.length() == 0 {
		return a.edges[i]
	}
	return a.edges[i] + (a.edges[i+1]-a.edges[i])*float64(t.Sub(s.from))/float64(s.length())
}

// when returns the moment at a place: the inverse of at.
func (a *axis) when(x float64) time.Time {
	i, _ := slices.BinarySearch(a.edges[1:], x)
	i = min(i, len(a.spans)-1)
	s := &a.spans[i]
	part := min(max((x-a.edges[i])/(a.edges[i+1]-a.edges[i]), 0), 1)
	return s.from.Add(time.Duration(part * float64(s.length())))
}

// A tick is a label of the axis.
type tick struct {
	x        float64
	at       time.Time
	step     time.Duration // of which at is a multiple
	wideOnly bool          // there is room for it on a wide screen
}

// steps are what labels are multiples of, the smallest first. Those of days are followed by ever more days.
var steps = func() []time.Duration {
	const day = 24 * time.Hour
	var s []time.Duration
	for unit := time.Millisecond; unit < time.Second; unit *= 10 {
		s = append(s, unit, 2*unit, 5*unit)
	}
	for _, unit := range []time.Duration{time.Second, time.Minute} {
		s = append(s, unit, 2*unit, 5*unit, 10*unit, 15*unit, 30*unit)
	}
	s = append(s, time.Hour, 2*time.Hour, 3*time.Hour, 6*time.Hour, 12*time.Hour)
	for unit := day; unit < 10000*day; unit *= 10 {
		s = append(s, unit, 2*unit, 5*unit)
	}
	return s
}()

// labelRoom is how wide a label is at most that is a multiple of step, with a space, in percent of the width: of a screen of 390 pixels, or
// of 700.
func labelRoom(step time.Duration, wide bool) float64 {
	switch {
	case step < time.Second && wide:
		return 11
	case step < time.Second:
		return 21
	case wide:
		return 8.5
	}
	return 17
}

// ticks returns the labels of the axis, from left to right.
func (a *axis) ticks() []tick {
	const nowRoom = 3.5 // for the label of the end, on a wide screen; twice that on a narrow one
	var ticks []tick
	var step time.Duration
	for _, wide := range []bool{false, true} {
		candidates := a.candidates(wide, step)
		for _, t := range candidates {
			room, now := labelRoom(t.step, wide), nowRoom
			if !wide {
				now *= 2
			}
			fits := t.x > room/2-2 && t.x < 100-now-room/2
			if fits && !slices.ContainsFunc(ticks, func(u tick) bool { return math.Abs(u.x-t.x) < max(room, labelRoom(u.step, wide)) }) {
				t.wideOnly = wide
				ticks = append(ticks, t)
			}
		}
		if len(candidates) > 0 && !a.compressed {
			step = candidates[0].step
		}
	}
	slices.SortFunc(ticks, func(a, b tick) int { return cmp.Compare(a.x, b.x) })
	return ticks
}

// candidates returns moments with round times for which there is about enough room. To scale, they have a common step, by which another one
// that is given can be divided.
func (a *axis) candidates(wide bool, of time.Duration) []tick {
	var ticks []tick
	first, last := a.spans[0].from, a.spans[len(a.spans)-1].to
	if !a.compressed {
		step := steps[len(steps)-1]
		for _, s := range slices.Backward(steps) {
			if float64(s)*100 < labelRoom(s, wide)*float64(last.Sub(first)) {
				break
			}
			if of%s == 0 {
				step = s
			}
		}
		for t := ceil(first, step); !t.After(last); t = t.Add(step) {
			ticks = append(ticks, tick{x: a.at(t), at: t, step: step})
		}
		return ticks
	}
	// The roundest time around each of some places.
	room := labelRoom(time.Second, wide)
	for x := 0.0; x < 100; x += room * 1.2 {
		from, to := a.when(max(0, x-room/4)), a.when(min(100, x+room/4))
		for _, step := range slices.Backward(steps) {
			if t := ceil(from, step); t.Before(to) {
				ticks = append(ticks, tick{x: a.at(t), at: t, step: step})
				break
			}
		}
	}
	return ticks
}

// ceil returns the first multiple of step that is not before t, in UTC.
func ceil(t time.Time, step time.Duration) time.Time {
	rounded := t.UTC().Truncate(step)
	if rounded.Before(t) {
		rounded = rounded.Add(step)
	}
	return rounded
}

// label returns the text of a tick, and below it the date; or the year, unless it is that of now.
func (t *tick) label(now time.Time) (text, date string) {
	switch {
	case t.step >= 24*time.Hour && t.at.Year() == now.UTC().Year():
		return t.at.Format("2 Jan"), ""
	case t.step >= 24*time.Hour:
		return t.at.Format("2 Jan"), t.at.Format("2006")
	case t.step >= time.Minute:
		text = t.at.Format("15:04")
	case t.step >= time.Second:
		text = t.at.Format("15:04:05")
	default:
		text = t.at.Format("15:04:05.999")
	}
	return text, t.at.Format("2 Jan")
}

// Heights in pixels.
const (
	timelineHeight = 104
	signsAt        = 10
	barsAt         = 22
	barsHeight     = 32
	axisAt         = 64
)

// A timelineDrawing is HTML in the making.
type timelineDrawing struct {
	strings.Builder
	axis *axis
}

func (d *timelineDrawing) text(s string) {
	_ = xml.EscapeText(d, []byte(s)) // a Builder takes everything
}

func (d *timelineDrawing) title(lines []string) {
	d.WriteString("<title>")
	for i, line := range lines {
		if i > 0 {
			d.WriteString("\n")
		}
		d.text(line)
	}
	d.WriteString("</title>")
}

func (d *timelineDrawing) figure(p *past) {
	name := p.summary()
	const scale = "Longer times are drawn shorter than they are, much longer ones with a break."
	if d.axis.compressed {
		name += ". " + scale
	}
	fmt.Fprintf(d, `<figure class="timeline"><svg xmlns="http://www.w3.org/2000/svg" width="100%%" height="%d" role="img" aria-label="`, timelineHeight)
	d.text(name)
	d.WriteString(`">` + "\n")
	d.ticks()
	for i := range p.spans {
		d.span(&p.spans[i], d.axis.edges[i], d.axis.edges[i+1], d.axis.broken[i])
	}
	shown := d.marks(p.marks)
	d.WriteString("</svg>\n<figcaption>")
	d.key(p.spans, shown)
	if d.axis.compressed {
		d.WriteString("<span>" + scale + "</span> ")
	}
	d.WriteString("<span>Times in UTC.</span></figcaption></figure>")
}

// summary is what the picture says, in a few words.
func (p *past) summary() string {
	first, last := &p.spans[0], &p.spans[len(p.spans)-1]
	return fmt.Sprintf("%s, %s in the last %s; %s for %s", counted(p.runs, "run"), counted(p.failures, "failure"),
		durationText(last.to.Sub(first.from)), strings.TrimSuffix(last.word, " now"), durationText(last.length()))
}

func (d *timelineDrawing) ticks() {
	fmt.Fprintf(d, `<g class="axis"><line x1="0" x2="100%%" y1="%d" y2="%[1]d"/>`, axisAt)
	var date, narrowDate string // that was shown last, with all labels, and without those for a wide screen alone
	now := d.axis.spans[len(d.axis.spans)-1].to
	for _, t := range d.axis.ticks() {
		class := "tick"
		if t.wideOnly {
			class = "tick wide"
		}
		text, day := t.label(now)
		fmt.Fprintf(d, `<g class=%q><line x1="%.2f%%" x2="%.2[2]f%%" y1="%d" y2="%d"/>`, class, t.x, axisAt, axisAt+4)
		fmt.Fprintf(d, `<text x="%.2f%%" y="%d" text-anchor="middle">%s</text>`, t.x, axisAt+17, text)
		if hidden := day == date; day != "" && (!hidden || !t.wideOnly && day != narrowDate) {
			class := "date"
			if hidden {
				class = "date narrow"
			}
			fmt.Fprintf(d, `<text class=%q x="%.2f%%" y="%d" text-anchor="middle">%s</text>`, class, t.x, axisAt+31, day)
		}
		d.WriteString("</g>\n")
		if date = day; !t.wideOnly {
			narrowDate = day
		}
	}
	fmt.Fprintf(d, `<g class="tick"><line x1="100%%" x2="100%%" y1="%d" y2="%d"/><text x="100%%" y="%d" text-anchor="end">now</text></g></g>`+"\n",
		axisAt, axisAt+4, axisAt+17)
}

// span draws a run as a bar, and the time between two as a line.
func (d *timelineDrawing) span(s *span, from, to float64, broken bool) {
	const middle = barsAt + barsHeight/2
	class := "gap"
	if s.runs > 0 {
		class = "run"
	}
	fmt.Fprintf(d, `<g class="%s state-%s">`, class, s.state)
	d.title(s.facts)
	fmt.Fprintf(d, `<rect x="%.2f%%" y="%d" width="%.2f%%" height="%d" rx="2"/>`, from, barsAt, to-from, barsHeight)
	if s.runs == 0 {
		fmt.Fprintf(d, `<line x1="%.2f%%" x2="%.2f%%" y1="%d" y2="%[3]d"/>`, from, to, middle)
	}
	if broken {
		x := from + (to-from)/5
		fmt.Fprintf(d, `<svg class="break" x="%.2f%%" y="%d"><path d="M-3 %d l6 %dm4 0l-6 %d"/></svg>`, x, barsAt, barsHeight+3, -barsHeight-6, barsHeight+6)
	}
	if s.runs == 1 && to-from >= labelRoom(time.Second, true) {
		class := "uptime"
		if to-from < labelRoom(time.Second, false) {
			class += " wide"
		}
		fmt.Fprintf(d, `<text class=%q x="%.2f%%" y="%d" text-anchor="middle">%s</text>`, class, (from+to)/2, middle+4, durationText(s.length()))
	}
	d.WriteString("</g>\n")
}

// marks draws the marks, and returns which signs have been used. Of those that are too near to each other only the first sign is drawn,
// with the facts of all.
func (d *timelineDrawing) marks(marks []mark) []sign {
	const apart, mostFacts = 3.6, 8
	marks = slices.Clone(marks)
	slices.SortStableFunc(marks, func(a, b mark) int { return cmp.Or(cmp.Compare(a.sign, b.sign), a.at.Compare(b.at)) })
	type place struct {
		x     float64
		marks []mark
	}
	var places []place // by x
	var used []sign
	for _, m := range marks {
		x := d.axis.at(m.at)
		i, _ := slices.BinarySearchFunc(places, x, func(p place, x float64) int { return cmp.Compare(p.x, x) })
		switch {
		case i < len(places) && places[i].x-x < apart:
		case i > 0 && x-places[i-1].x < apart:
			i--
		default:
			places = slices.Insert(places, i, place{x: x})
			used = append(used, m.sign)
		}
		places[i].marks = append(places[i].marks, m)
	}
	for _, p := range places {
		shown := &signs[p.marks[0].sign]
		slices.SortStableFunc(p.marks, func(a, b mark) int { return a.at.Compare(b.at) })
		var facts []string
		for _, m := range p.marks[:min(mostFacts, len(p.marks))] {
			facts = append(facts, m.fact)
		}
		if more := len(p.marks) - mostFacts; more > 0 {
			facts = append(facts, fmt.Sprintf("and %d more", more))
		}
		fmt.Fprintf(d, `<svg class="sign state-%s" x="%.2f%%" y="%d"><g>`, shown.state, p.x, signsAt)
		d.title(facts)
		d.WriteString(shown.path + "</g></svg>\n")
	}
	return slices.Compact(used)
}

// key explains what is in the picture.
func (d *timelineDrawing) key(spans []span, used []sign) {
	type entry struct{ class, state, word string }
	var entries []entry
	for i := range spans {
		e := entry{"swatch", spans[i].state, spans[i].word}
		if spans[i].runs == 0 {
			e.class = "dash"
			if e.state != "backoff" && slices.ContainsFunc(spans, func(s span) bool { return s.runs > 0 && s.state == e.state }) {
				continue // a bar of that color says it
			}
		}
		if !slices.Contains(entries, e) {
			entries = append(entries, e)
		}
	}
	for _, e := range entries {
		fmt.Fprintf(d, `<span class="%s state-%s">%s</span> `, e.class, e.state, e.word)
	}
	for _, s := range used {
		fmt.Fprintf(d, `<span class="state-%s"><svg class="sign" width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">%s</svg>%s</span> `,
			signs[s].state, signs[s].path, signs[s].word)
	}
}

// failureSign is that of a run which has failed with err.
func failureSign(err error) sign {
	if gaveUp, ok := err.(*taskmanager.GiveUpError); ok && gaveUp != nil { //nolint:errorlint // errors of users are not asked
		err = gaveUp.Err
	}
	if _, ok := err.(*taskmanager.PanicError); ok { //nolint:errorlint // likewise
		return signPanic
	}
	return signFailure
}

// errorKind says what kind of a failure err is, as far as its type says, for its methods are user code.
func errorKind(err error) string {
	if gaveUp, ok := err.(*taskmanager.GiveUpError); ok && gaveUp != nil { //nolint:errorlint // errors of users are not asked
		kind := "error"
		if _, again := gaveUp.Err.(*taskmanager.GiveUpError); !again { //nolint:errorlint // likewise
			kind = errorKind(gaveUp.Err)
		}
		return kind + " (" + string(gaveUp.Reason) + ")"
	}
	switch err.(type) { //nolint:errorlint // likewise
	case nil:
		return "no error"
	case *taskmanager.PanicError:
		return "panic"
	case *taskmanager.OverdueError:
		return "overdue"
	case *taskmanager.StopTimeoutError:
		return "left something running"
	}
	if err == taskmanager.ErrGoexit { //nolint:errorlint // likewise
		return "runtime.Goexit"
	}
	return "error"
}

func moment(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05.000 UTC") }

// exactly is d to the millisecond, or to the microsecond if it is short.
func exactly(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
