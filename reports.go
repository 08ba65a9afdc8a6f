package taskmanager

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

const (
	reportsWaiting = 10_000  // pairs of task and kind, in one queue
	fewReports     = 5       // of one kind, that may wait without being merged with those that have the same error
	mostReports    = 16      // of one kind, that remain when the others are merged whatever their errors are
	mostTurns      = 4       // of a task that fails and recovers in turn, in reports of several tasks
	countedTasks   = 1 << 16 // of those for which a report stands

	readTime = 100 * time.Millisecond // to know the texts of errors
)

// A report is an event that waits for a Reporter, or for its turn in the log; or several that are merged.
type report struct {
	event    Event  // the latest; if several tasks are merged, without what is true of one of them
	origin   string // of the bus at which the event has come in
	key      reportKey
	place    time.Time           // in a queue: when the first of its events happened, or when it was put behind others
	number   uint64              // in a queue: tells which came first of those with the same place; 0 before
	sequence uint64              // in a queue: when it was put there
	attempts int                 // that have failed
	doubted  bool                // the Reporter may be unable to take it: it has failed, and another one has been delivered since
	tasks    map[uint64]struct{} // if several are merged: which, hashed; otherwise nil
	reading  readState
	text     uint64 // of the event's error, hashed, once it has been read

	line *logLine  // of the log: that of the event
	bus  *eventBus // of the log: of the Manager of its task
}

// A readState says what is known of the text of a report's error, which only user code can tell.
type readState uint8

const (
	notRead readState = iota
	beingRead
	hasBeenRead
)

// A reportKey is what those reports have in common that are merged. A path alone does not tell the
// task "g/a" from the task "a" of the group "g".
type reportKey struct {
	origin string // with task: of one task; without, of several
	task   string
	kind   EventKind
	level  slog.Level // of the line
	text   uint64     // of several tasks: of the error that they have in common; 0 if there is none
	cools  bool       // of EventGaveUp: not for good

	settled bool // of one task: of a failure, it has recovered since; of a recovery, it is told as it is, before what has failed since
	round   int  // of several: tells reports apart between which a task has failed after it had recovered, or recovered
}

// ofKind returns the key of reports of several tasks with that error; 0 for any.
func (k reportKey) ofKind(text uint64) reportKey {
	return reportKey{kind: k.kind, level: k.level, text: text, cools: k.cools}
}

func newReport(e *Event, origin string) *report {
	return &report{event: *e, origin: origin, key: reportKey{origin: origin, task: e.Task, kind: e.Kind, level: e.Kind.Level(), cools: e.cools()}, place: e.firstTime()}
}

// clone returns a copy, for another queue, that is not changed by what is merged with r.
func (r *report) clone() *report {
	c := *r
	c.number = 0
	c.tasks = maps.Clone(r.tasks)
	if c.reading == beingRead { // for r
		c.reading = notRead
	}
	c.event.Tasks = slices.Clone(r.event.Tasks)
	return &c
}

func cloneAll(reports []*report) []*report {
	clones := make([]*report, len(reports))
	for i, r := range reports {
		clones[i] = r.clone()
	}
	return clones
}

// eventCount is how many events the report stands for.
func (r *report) eventCount() uint64 { return 1 + uint64(r.event.Repeats) }

// taskCount is how many tasks the report stands for.
func (r *report) taskCount() int { return max(1, r.event.TaskCount) }

// taskHash tells the task of a report that stands for one from others.
func (r *report) taskHash() uint64 { return hashTexts(r.origin, r.event.Task) }

// countEvents is how many events the reports stand for.
func countEvents(reports []*report) (n uint64) {
	for _, r := range reports {
		n += r.eventCount()
	}
	return n
}

// absorb merges other into r. The later of their events is kept.
func (r *report) absorb(other *report) {
	several := r.tasks != nil || other.tasks != nil || r.origin != other.origin || r.event.Task != other.event.Task
	var (
		dependents     []string
		dependentCount int
	)
	if several {
		r.addTasks(other)
		dependents, dependentCount = joinDependents(&r.event, &other.event)
	}
	repeats := r.event.Repeats + 1 + other.event.Repeats
	since := r.event.firstTime()
	if s := other.event.firstTime(); s.Before(since) {
		since = s
	}
	names, count := r.event.Tasks, r.event.TaskCount
	if !other.event.Time.Before(r.event.Time) {
		r.event, r.reading, r.text = other.event, other.reading, other.text
		r.line, r.bus = other.line, other.bus
	}
	r.event.Repeats, r.event.Since = repeats, since
	r.attempts = max(r.attempts, other.attempts)
	if several {
		r.origin = ""
		r.event.generalize(names, count)
		r.event.Dependents, r.event.DependentCount = dependents, dependentCount
	}
}

// joinDependents returns the dependents of two events: how many they are at least, and the names of some.
func joinDependents(a, b *Event) (names []string, count int) {
	names = slices.Clone(a.Dependents)
	for _, name := range b.Dependents {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	count = max(a.DependentCount, b.DependentCount, len(names))
	return names[:min(len(names), mostNamed)], count
}

// addTasks notes that r stands for the tasks of other, too.
func (r *report) addTasks(other *report) {
	if r.tasks == nil {
		r.tasks = make(map[uint64]struct{})
		r.addTask(r.taskHash(), r.event.Task)
	}
	if other.tasks == nil {
		r.addTask(other.taskHash(), other.event.Task)
		return
	}
	for hash := range other.tasks {
		r.addTask(hash, "")
	}
	for _, name := range other.event.Tasks {
		r.addName(name)
	}
}

func (r *report) addTask(hash uint64, name string) {
	if _, known := r.tasks[hash]; known || len(r.tasks) >= countedTasks {
		return
	}
	r.tasks[hash] = struct{}{}
	r.event.TaskCount = len(r.tasks)
	r.addName(name)
}

func (r *report) addName(name string) {
	if name != "" && len(r.event.Tasks) < mostNamed && !slices.Contains(r.event.Tasks, name) {
		r.event.Tasks = append(r.event.Tasks, name)
	}
}

// generalize has e stand for several tasks: it drops what is true of one.
func (e *Event) generalize(names []string, count int) {
	e.Task, e.Tasks, e.TaskCount = "", names, count
	if !e.cools() {
		e.Delay = 0
	}
	e.Run, e.By, e.Restarts, e.MaxRestarts, e.Window, e.Uptime = 0, "", 0, 0, 0, 0
	e.Failures, e.FailedSince = 0, time.Time{}
	e.Err = e.commonError()
}

// commonError is what e.Err says that may be true of other tasks as well.
func (e *Event) commonError() error {
	switch err := e.Err.(type) { //nolint:errorlint // the event's own
	case *GiveUpError:
		return err.Err
	case *StopTimeoutError:
		return &StopTimeoutError{Timeout: err.Timeout}
	}
	return e.Err
}

var hashSeed = maphash.MakeSeed()

// hashTexts returns a number by which these strings are told from others. It is not 0.
func hashTexts(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, p := range parts {
		_, _ = h.WriteString(p)
		_ = h.WriteByte(0)
	}
	return max(1, h.Sum64())
}

// A reportQueue holds what waits, the oldest first. Its mutex is that of what it is a part of.
type reportQueue struct {
	byKey map[reportKey]*report
	order []*report // of byKey
	added uint64    // numbers that were given
	put   uint64    // sequences that were given
}

// add merges r with the report of the same key, if there is one, and otherwise puts it at the end.
func (q *reportQueue) add(r *report) {
	if q.byKey[r.key] == nil && len(q.order) >= reportsWaiting {
		r.key = r.key.ofKind(0)
	}
	old := q.byKey[r.key]
	if r.key.isLatestRecovery() {
		q.settle(r.key)
		switch {
		case old == nil:
		case q.isNextOfTask(old): // it is told as it is: who fails again and again would never be told to have recovered
			q.settleOne(old)
			old = nil
		default: // it goes behind what it is the recovery from
			q.drop(old)
			delete(q.byKey, old.key)
			old.absorb(r)
			old.place, old.number = r.place, r.number
			r, old = old, nil
		}
	}
	if old != nil {
		old.absorb(r)
		return
	}
	if q.byKey == nil {
		q.byKey = make(map[reportKey]*report)
	}
	if r.number == 0 {
		q.added++
		r.number = q.added
	}
	q.put++
	r.sequence = q.put
	q.byKey[r.key] = r
	q.order = append(q.order, r)
}

// isLatestRecovery reports whether the key is that of a recovery of one task, with which the next one is merged.
func (k *reportKey) isLatestRecovery() bool {
	return k.kind == EventRecovered && k.task != "" && !k.settled
}

// settle notes that the task of k has recovered: a failure that follows is not merged with those that wait.
func (q *reportQueue) settle(k reportKey) {
	for kind := range EventKind(len(eventKinds)) {
		if !kind.isReported() || kind == EventRecovered {
			continue
		}
		k.kind, k.level = kind, kind.Level()
		for _, k.cools = range []bool{false, true} {
			if r := q.byKey[k]; r != nil {
				q.settleOne(r)
			}
		}
	}
}

// settleOne has what comes in from now on not be merged with r.
func (q *reportQueue) settleOne(r *report) {
	delete(q.byKey, r.key)
	r.key.settled = true
	if old := q.byKey[r.key]; old != nil {
		q.drop(r)
		old.absorb(r)
	} else {
		q.byKey[r.key] = r
	}
}

// isNextOfTask reports whether nothing that is about the task of r alone waits before r.
func (q *reportQueue) isNextOfTask(r *report) bool {
	return r == q.order[slices.IndexFunc(q.order, r.isOfTask)]
}

// drop takes r out of the order.
func (q *reportQueue) drop(r *report) {
	i := slices.Index(q.order, r)
	q.order = slices.Delete(q.order, i, i+1)
}

// turns say of each task, by its hash, what has been put into a queue.
type turns map[uint64]turn

// A turn is the latest report of a task.
type turn struct {
	sequence uint64
	several  int // so many reports in a row, of several tasks, with this one
}

// turns returns empty ones; nil if they don't matter, for nothing that waits is a recovery.
func (q *reportQueue) turns() turns {
	if slices.ContainsFunc(q.order, func(r *report) bool { return r.key.kind == EventRecovered }) {
		return make(turns)
	}
	return nil
}

// addAfter is add of a report under that key. It is not merged with one that is before others of its tasks: they would be told the
// other way round. One of a task that has had its turns in reports of several keeps its own key, until some of these are told:
// there would be ever more of them.
func (q *reportQueue) addAfter(r *report, key reportKey, latest turns) {
	if latest == nil {
		r.key = key
		q.add(r)
		return
	}
	tasks := r.tasks
	if tasks == nil {
		tasks = map[uint64]struct{}{r.taskHash(): {}}
	}
	var after turn
	for task := range tasks {
		after.sequence = max(after.sequence, latest[task].sequence)
		after.several = max(after.several, latest[task].several)
	}
	if key.task == "" {
		key.round = 0
		for q.byKey[key] != nil && q.byKey[key].sequence < after.sequence {
			key.round++
		}
	}
	if old := q.byKey[key]; r.key.task == "" || after.several < mostTurns || old != nil && old.sequence == after.sequence {
		r.key = key
	}
	q.add(r)
	at := q.byKey[r.key].sequence
	for task := range tasks {
		now := turn{at, latest[task].several}
		if r.key.task == "" && at != latest[task].sequence {
			now.several++
		}
		latest[task] = now
	}
}

// addCopy is add of a copy of r, which is made only if it is put at the end.
func (q *reportQueue) addCopy(r *report) {
	if old := q.byKey[r.key]; old != nil && !r.key.isLatestRecovery() {
		old.absorb(r)
		return
	}
	c := *r
	q.add(&c)
}

// addFirst puts back what has been taken out, before what has come in since.
func (q *reportQueue) addFirst(reports []*report) {
	if len(reports) == 0 {
		return
	}
	again := make(map[uint64]struct{}) // tasks, hashed
	for _, r := range reports {
		again[r.taskHash()] = struct{}{}
	}
	waiting := q.takeAll()
	for _, r := range waiting {
		if _, ok := again[r.taskHash()]; ok && r.key.kind == EventRecovered {
			r.key.settled = false // it is not the next of its task any more
		}
	}
	for _, r := range append(reports, waiting...) {
		q.add(r)
	}
	q.sort()
}

func (q *reportQueue) sort() {
	slices.SortFunc(q.order, func(a, b *report) int { return cmp.Or(a.place.Compare(b.place), cmp.Compare(a.number, b.number)) })
}

// take takes out n, from place i on.
func (q *reportQueue) take(i, n int) []*report {
	taken := slices.Clone(q.order[i : i+n])
	q.order = slices.Delete(q.order, i, i+n)
	for _, r := range taken {
		delete(q.byKey, r.key)
	}
	return taken
}

func (q *reportQueue) takeAll() []*report {
	all := q.order
	q.order, q.byKey = nil, nil
	return all
}

// putBehind has a report, and what else waits of its task, wait behind all others.
func (q *reportQueue) putBehind(r *report) {
	now := time.Now()
	for _, other := range q.order {
		if other == r || other.isOfTask(r) || other.isBoundTo(r) {
			other.place = now
		}
	}
	q.sort()
}

// isOfTask reports whether r is about the same task as other, and no other.
func (r *report) isOfTask(other *report) bool {
	return r.tasks == nil && other.tasks == nil && r.origin == other.origin && r.event.Task == other.event.Task
}

// isBoundTo reports whether one of the two is a recovery and the other is not, of some task in both: they keep their order.
func (r *report) isBoundTo(other *report) bool {
	if (r.key.kind == EventRecovered) == (other.key.kind == EventRecovered) {
		return false
	}
	return r.includesOneOf(other) || other.includesOneOf(r)
}

// includesOneOf reports whether one of the tasks of other, of which there may be one alone, is one of those of r.
func (r *report) includesOneOf(other *report) bool {
	if other.tasks == nil {
		_, ok := r.tasks[other.taskHash()]
		return ok
	}
	for task := range other.tasks {
		if _, ok := r.tasks[task]; ok {
			return true
		}
	}
	return false
}

// anotherThan returns the place of the report of another task that has failed least often, the first of them; 0 if there is none.
func (q *reportQueue) anotherThan(first *report) int {
	place := 0
	for i, r := range q.order {
		if !r.isOfTask(first) && !r.isBoundTo(first) && r.attempts < q.order[place].attempts {
			place = i
		}
	}
	return place
}

// batch returns how many of the first can be reported together: one that the Reporter may be unable to take goes alone.
func (q *reportQueue) batch() int {
	doubtful := slices.IndexFunc(q.order, func(r *report) bool { return r.doubted })
	if doubtful < 0 {
		return len(q.order)
	}
	return max(1, doubtful)
}

// unread returns the reports whose errors are to be read before the queue is condensed.
func (q *reportQueue) unread() []*report {
	var unread []*report
	tasks := q.tasksOfKinds()
	for _, r := range q.order {
		if r.reading == notRead && tasks[r.event.Kind] > fewReports {
			unread = append(unread, r)
		}
	}
	return unread
}

// readErrors asks for the texts of the reports' errors, on a goroutine of its own, for their methods are the user's. It returns when they
// are known, or after a moment: who hangs there holds up no report. mu is that of the queue.
func readErrors(ctx context.Context, mu *sync.Mutex, unread []*report) {
	if len(unread) == 0 {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done) // also if one of the methods calls runtime.Goexit
		pprof.SetGoroutineLabels(ctx)
		for _, r := range unread {
			r.readError(mu)
		}
	}()
	moment := time.NewTimer(readTime)
	defer moment.Stop()
	select {
	case <-done:
	case <-moment.C:
	}
}

// readError asks for the text of the error, unless somebody does.
func (r *report) readError(mu *sync.Mutex) {
	mu.Lock()
	err, begun := r.event.commonError(), r.reading != notRead
	if !begun {
		r.reading = beingRead
	}
	mu.Unlock()
	if begun {
		return
	}
	var text uint64
	switch err := err.(type) { //nolint:errorlint // the event's own
	case nil:
		text = hashTexts("")
	case *PanicError:
		text = hashTexts(errorText(err), fmt.Sprint(err.pcs)) // "invalid memory address" is not one error
	default:
		text = hashTexts(errorText(err))
	}
	mu.Lock()
	defer mu.Unlock()
	if r.reading == beingRead { // no later one has replaced it meanwhile
		r.reading, r.text = hasBeenRead, text
	}
}

// condense makes few reports of many that say the same, in a queue whose mutex mu is. It calls methods of the events' errors, which are
// the user's. It returns how many fewer there are.
func condense(ctx context.Context, mu *sync.Mutex, q *reportQueue) (merged int) {
	mu.Lock()
	if len(q.order) <= fewReports {
		mu.Unlock()
		return 0
	}
	unread := q.unread()
	mu.Unlock()
	readErrors(ctx, mu, unread)
	mu.Lock()
	defer mu.Unlock()
	before := len(q.order)
	q.condense()
	return before - len(q.order)
}

// condense merges reports of the same kind and error, of whatever task, where more than a few of a kind wait; and if many remain, all
// but the oldest, whatever their errors are.
func (q *reportQueue) condense() {
	tasks := q.tasksOfKinds()
	common := make(map[reportKey]int) // how many reports have that kind and text
	for _, r := range q.order {
		if r.reading == hasBeenRead && tasks[r.event.Kind] > fewReports {
			common[r.key.ofKind(r.text)]++
		}
	}
	latest := q.turns()
	for _, r := range q.takeAll() {
		key := r.key
		if k := r.key.ofKind(r.text); r.reading == hasBeenRead && common[k] > 1 {
			key = k
		}
		q.addAfter(r, key, latest)
	}
	kinds := make(map[EventKind]int)
	for _, r := range q.order {
		kinds[r.event.Kind]++
	}
	if !slices.ContainsFunc(slices.Collect(maps.Values(kinds)), func(n int) bool { return n > mostReports }) {
		return
	}
	clear(kinds)
	latest = q.turns()
	for _, r := range q.takeAll() {
		key := r.key
		if kinds[r.event.Kind]++; kinds[r.event.Kind] > mostReports {
			key = r.key.ofKind(0)
		}
		q.addAfter(r, key, latest)
	}
}

// tasksOfKinds returns for how many tasks reports of each kind wait.
func (q *reportQueue) tasksOfKinds() map[EventKind]int {
	tasks := make(map[EventKind]int)
	for _, r := range q.order {
		latest := r.key
		latest.settled = false
		if !r.key.settled || q.byKey[latest] == nil { // its task is counted there
			tasks[r.event.Kind] += r.taskCount()
		}
	}
	return tasks
}

// A reportUnion is what waits for the Reporters that SetReporter finds, each report once. What waits
// for several waited for all of them, until it was delivered to some: of two reports with the same
// key the larger is all.
type reportUnion struct {
	byKey map[reportKey]*report
	order []*report // of byKey
}

func (u *reportUnion) add(reports []*report) {
	for _, r := range reports {
		switch old := u.byKey[r.key]; {
		case old == nil:
			u.byKey[r.key] = r
			u.order = append(u.order, r)
		case r.standsForAll(old) && r.eventCount() >= old.eventCount():
			*old = *r
		case !old.standsForAll(r):
			old.absorb(r) // what both stand for is told twice, which is better than not at all
		}
	}
}

// standsForAll reports whether r stands for all of the tasks of other, whose key it has.
func (r *report) standsForAll(other *report) bool {
	for hash := range other.tasks {
		if _, ok := r.tasks[hash]; !ok {
			return false
		}
	}
	return true
}

// oldestFirst returns the reports.
func (u *reportUnion) oldestFirst() []*report {
	slices.SortStableFunc(u.order, func(a, b *report) int { return a.turn().Compare(b.turn()) })
	return u.order
}

// turn is when r is to be told: of recoveries of one task, after what the latest of them is from.
func (r *report) turn() time.Time {
	if r.key.kind == EventRecovered && r.key.task != "" {
		return r.place
	}
	return r.event.firstTime()
}
