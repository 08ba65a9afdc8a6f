package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// What a page shows is kept up to date by messages: with a stream of them, or one at a time where there can't be a stream.

const (
	frameEvery  = time.Second
	writeWithin = 10 * time.Second // one message, or the client is given up
	mostStreams = 100              // at a time; who comes then has to poll
)

// A message is what has changed, as a page is told.
type message struct {
	instance string // of the handler: that of another process is another one
	at       time.Time
	totals   []byte            // as JSON; nil if that is not known any more
	rows     []json.RawMessage // of tasks that have changed
	end      string            // why this is the last one: see below
}

// json is the message as JSON. It is put together, for what it consists of has been written for all viewers.
func (m *message) json() []byte {
	size := 200 + len(m.totals)
	for _, row := range m.rows {
		size += len(row) + 1
	}
	b := make([]byte, 0, size)
	b = append(b, `{"instance":"`...)
	b = append(b, m.instance...)
	b = append(b, `","at":"`...)
	b = append(b, machineTime(m.at)...)
	b = append(b, '"')
	if m.totals != nil {
		b = append(b, `,"totals":`...)
		b = append(b, m.totals...)
	}
	for i, row := range m.rows {
		if i == 0 {
			b = append(b, `,"rows":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, row...)
	}
	if len(m.rows) > 0 {
		b = append(b, ']')
	}
	if m.end != "" {
		b = append(b, `,"end":"`...)
		b = append(b, m.end...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// Why there are no more messages.
const (
	managerEnded  = "manager" // Shutdown of the Manager has ended
	serverStopped = "server"  // the server is being shut down
)

// A liveRow is a row as a message has it.
type liveRow struct {
	ID    string `json:"id"`
	Class string `json:"class"`
	State string `json:"state"`
	Gone  bool   `json:"gone,omitempty"` // there is no such task any more
	Cells []cell `json:"cells,omitempty"`
}

// A frame is how things are at one moment, for all viewers. It is not changed.
type frame struct {
	at     time.Time
	totals []byte               // as JSON
	rows   map[string]*frameRow // by the ids of the tasks
	ended  bool                 // the Manager
	later  chan struct{}        // closed when there is a later frame
}

// A frameRow is the same pointer in the next frame if nothing has changed.
type frameRow struct {
	row  liveRow
	json json.RawMessage
}

// A feed makes frames as long as there is a viewer, by one goroutine for all of them.
type feed struct {
	dashboard *dashboard

	mu      sync.Mutex
	viewers int
	wanted  map[string]*wantedTask // by id
	latest  *frame                 // nil without viewers
	stop    chan struct{}          // closed when there are no viewers any more
}

type wantedTask struct {
	path    []string
	viewers int
}

// join adds a viewer of some tasks, and returns the frame after which it is told of the others. It returns false if there are too many, or
// the Manager has ended.
func (f *feed) join(tasks map[string][]string) (*frame, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers == mostStreams || f.latest != nil && f.latest.ended {
		return nil, false
	}
	for id, path := range tasks {
		w := f.wanted[id]
		if w == nil {
			w = &wantedTask{path: path}
			f.wanted[id] = w
		}
		w.viewers++
	}
	if f.viewers++; f.viewers == 1 {
		f.latest, f.stop = &frame{later: make(chan struct{})}, make(chan struct{})
		go f.run(f.latest, f.stop)
	}
	return f.latest, true
}

func (f *feed) leave(tasks map[string][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range tasks {
		w := f.wanted[id]
		if w.viewers--; w.viewers == 0 {
			delete(f.wanted, id)
		}
	}
	if f.viewers--; f.viewers == 0 {
		close(f.stop)
		f.latest = nil
	}
}

// run makes frames after before until stop is closed, or the Manager has ended.
func (f *feed) run(before *frame, stop <-chan struct{}) {
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for {
		m := f.dashboard.manager() // SetDefault may have set another one
		next := f.dashboard.frame(m, f.paths(), before)
		f.mu.Lock()
		if f.latest == before { // there are viewers still
			f.latest = next
		}
		f.mu.Unlock()
		close(before.later)
		if next.ended {
			return
		}
		before = next
		select {
		case <-stop:
			return
		case <-m.Done():
		case <-tick.C:
		}
	}
}

func (f *feed) paths() map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	paths := make(map[string][]string, len(f.wanted))
	for id, w := range f.wanted {
		paths[id] = w.path
	}
	return paths
}

// frame looks at the tasks of some ids.
func (d *dashboard) frame(m *taskmanager.Manager, paths map[string][]string, before *frame) *frame {
	totals, _ := json.Marshal(m.Totals()) // counts always can be written
	next := &frame{at: time.Now(), totals: totals, rows: make(map[string]*frameRow, len(paths)), later: make(chan struct{})}
	select {
	case <-m.Done():
		next.ended = true
	default:
	}
	var places []place
	for id, path := range paths {
		if t, ok := lookup(m, path); ok {
			places = append(places, place{task: t})
			continue
		}
		next.add(liveRow{ID: id, Gone: true}, before)
	}
	for _, r := range d.rowsOf(places) {
		next.add(liveRow{ID: r.id, Class: r.trouble.class(), State: r.stats.State.String(), Cells: r.cells()}, before)
	}
	return next
}

// add adds a row, that of the frame before if it is the same.
func (f *frame) add(row liveRow, before *frame) {
	if before != nil {
		if old := before.rows[row.ID]; old != nil && old.row.equals(&row) {
			f.rows[row.ID] = old
			return
		}
	}
	text, err := json.Marshal(row)
	if err != nil {
		return // a time in a year that JSON has no form for
	}
	f.rows[row.ID] = &frameRow{row, text}
}

func (r *liveRow) equals(other *liveRow) bool {
	return r.Class == other.Class && r.State == other.State && r.Gone == other.Gone && slices.EqualFunc(r.Cells, other.Cells, cell.equals)
}

func (c cell) equals(other cell) bool {
	sameTime := c.Time.Equal(other.Time)
	c.Time = other.Time
	return sameTime && c == other
}

// message says what is new in f for a viewer of tasks who has been told of what is in told, which it changes.
func (f *frame) message(instance string, tasks map[string][]string, told map[string]*frameRow) *message {
	msg := &message{instance: instance, at: f.at, totals: f.totals}
	if f.ended {
		msg.end = managerEnded
	}
	for id := range tasks {
		if row := f.rows[id]; row != nil && told[id] != row {
			told[id] = row
			msg.rows = append(msg.rows, row.json)
		}
	}
	return msg
}

// serveLive answers with a stream of messages about some tasks, or with one if there can't be a stream, or "once" asks for one.
func (d *dashboard) serveLive(w http.ResponseWriter, r *http.Request) *problem {
	tasks, p := d.findRows(r.URL.Query().Get("rows"))
	if p != nil {
		return p
	}
	stopping := d.servers.stoppingOf(r)
	control := http.NewResponseController(w)
	if r.URL.Query().Get("once") == "1" || r.Method == http.MethodHead || !canStream(control) {
		d.answerOnce(w, tasks)
		return nil
	}
	f, ok := d.feed.join(tasks)
	if !ok {
		d.answerOnce(w, tasks)
		return nil
	}
	defer d.feed.leave(tasks)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx hands on what it gets at once
	if err := control.Flush(); err != nil {
		if errors.Is(err, http.ErrNotSupported) {
			d.answerOnce(w, tasks)
		}
		return nil
	}
	d.stream(w, control, r.Context(), stopping, f, tasks)
	return nil
}

// canStream reports whether a response may take as long as it likes, which it then may.
func canStream(control *http.ResponseController) bool {
	if control.SetReadDeadline(time.Time{}) != nil { // when it has passed the context ends
		return false
	}
	return control.SetWriteDeadline(time.Time{}) == nil
}

func (d *dashboard) stream(
	w io.Writer, control *http.ResponseController, ctx context.Context, stopping <-chan struct{}, f *frame, tasks map[string][]string, //nolint:revive // what it writes to comes first
) {
	told := make(map[string]*frameRow, len(tasks))
	for ended := false; !ended; {
		var msg *message
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			msg, ended = &message{instance: d.instance, at: time.Now(), end: serverStopped}, true
		case <-f.later:
			if f = d.feed.current(); f == nil {
				return
			}
			msg, ended = f.message(d.instance, tasks, told), f.ended
		}
		_ = control.SetWriteDeadline(time.Now().Add(writeWithin))
		if _, err := fmt.Fprintf(w, "data: %s\n\n", msg.json()); err != nil {
			return
		}
		if control.Flush() != nil {
			return
		}
	}
}

// current is the latest frame.
func (f *feed) current() *frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest
}

func (d *dashboard) answerOnce(w http.ResponseWriter, tasks map[string][]string) {
	f := d.frame(d.manager(), tasks, nil)
	writeJSON(w, http.StatusOK, json.RawMessage(f.message(d.instance, tasks, make(map[string]*frameRow)).json()))
}

// rowID is a short name of a task in a page and in the address of its stream: that of another handler is another one.
func (d *dashboard) rowID(path []string) string {
	var h maphash.Hash
	h.SetSeed(d.seed)
	for _, name := range path {
		_, _ = h.WriteString(name)
		_ = h.WriteByte(0) // which no name has
	}
	return encodeID(h.Sum64())
}

// idLength is that of an id, in characters of 6 bits: of 1,000 tasks of a page and 100,000 others, two have the same id in one page of three million.
const idLength = 8

func encodeID(hash uint64) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var id [idLength]byte
	for i := range id {
		id[i] = digits[hash&63]
		hash >>= 6
	}
	return string(id[:])
}

// findRows returns the paths of the tasks whose ids are in text, one after the other: those of the largest page fit into the 8 kB that proxies
// let an address have. What has no task any more is left out: of that the page
// is told nothing.
func (d *dashboard) findRows(text string) (map[string][]string, *problem) {
	tasks := make(map[string][]string)
	if text == "" {
		return tasks, nil
	}
	wanted := make(map[string]bool)
	if len(text)%idLength != 0 {
		return nil, badRequest("rows has the ids of rows, and not %s.", quoted(text))
	}
	for ; text != ""; text = text[idLength:] {
		wanted[text[:idLength]] = true
	}
	if len(wanted) > mostPerPage {
		return nil, badRequest("rows has %d ids at most.", mostPerPage)
	}
	d.eachPath(d.manager(), nil, func(path []string) bool {
		if id := d.rowID(path); wanted[id] {
			tasks[id] = slices.Clone(path)
		}
		return len(tasks) < len(wanted)
	})
	return tasks, nil
}

// eachPath calls f with the path of each task, which is valid for that call, until it returns false.
func (d *dashboard) eachPath(m *taskmanager.Manager, prefix []string, f func([]string) bool) bool {
	for t := range m.Tasks() {
		path := append(prefix, t.Name()) //nolint:gocritic // for the call alone
		if !f(path) {
			return false
		}
		if group := t.Group(); group != nil && !d.eachPath(group, path, f) {
			return false
		}
	}
	return true
}
