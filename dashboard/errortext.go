package dashboard

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// An errorText is what is shown of an error.
type errorText struct {
	text  string
	stack string // of a panic, of what was late or is stuck; empty if there is none
}

// errorTexts reads errors. Their methods are user code, which may be slow, hang, panic or call runtime.Goexit: so they are called on a
// goroutine of their own, for which a page waits for a limited time.
type errorTexts struct {
	mu   sync.Mutex
	hung map[any]struct{} // of whose errors a method has not returned: they are not read again before it has
}

const (
	waitForError  = 100 * time.Millisecond // for one
	waitForErrors = time.Second            // for those of a page
	mostHung      = 100                    // beyond that, no method of an error is called any more
	mostErrorText = 1 << 16                // bytes of a text, of which a page may have many
	deepestError  = 1000                   // of what wraps more, the methods might never return, or use up the stack
)

// read returns what is to be shown of errs, of which some may be nil.
func (x *errorTexts) read(errs []error) []errorText {
	texts := make([]errorText, len(errs))
	deadline := time.Now().Add(waitForErrors)
	for i := 0; i < len(errs); {
		if errs[i] == nil {
			i++
			continue
		}
		i += x.readSome(errs[i:], texts[i:], deadline)
	}
	return texts
}

// readOne is read for one error.
func (x *errorTexts) readOne(err error) errorText { return x.read([]error{err})[0] }

// An errorReader reads some errors, on its goroutine.
type errorReader struct {
	all    *errorTexts
	errs   []error
	texts  []errorText   // those before read may be read by others
	exited chan struct{} // closed when it has read all, or a method has called runtime.Goexit

	// Guarded by the mu of all.
	read int
	left bool // nobody waits for it any more: the error that is being read hangs
}

// readSome reads errs up to the first that does not let itself be read, and returns how many of texts are there by that.
func (x *errorTexts) readSome(errs []error, texts []errorText, deadline time.Time) int {
	r := &errorReader{all: x, errs: errs, texts: make([]errorText, len(errs)), exited: make(chan struct{})}
	go r.run()
	tick := time.NewTicker(waitForError)
	defer tick.Stop()
	for before := -1; ; {
		select {
		case <-r.exited:
			n := copy(texts, r.texts[:r.read])
			if n < len(errs) {
				texts[n] = errorText{text: fmt.Sprintf("(%T, whose methods call runtime.Goexit)", errs[n])}
				n++
			}
			return n
		case now := <-tick.C:
			isLate := !now.Before(deadline)
			read, left := r.leave(before, isLate)
			if before = read; !left {
				continue
			}
			n := copy(texts, r.texts[:read])
			if errs[n] != nil {
				texts[n] = errorText{text: fmt.Sprintf("(%T, whose methods do not return)", errs[n])}
			}
			for n++; isLate && n < len(errs); n++ {
				if errs[n] != nil {
					texts[n] = errorText{text: fmt.Sprintf("(%T, for which there was no time)", errs[n])}
				}
			}
			return n
		}
	}
}

// leave leaves the reader to itself if it has read no more than before, or anyway. It returns how many it has read, unless it has read
// all of them.
func (r *errorReader) leave(before int, anyway bool) (read int, left bool) {
	x := r.all
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.read == len(r.errs) || r.read > before && !anyway {
		return r.read, false
	}
	if x.hung == nil {
		x.hung = make(map[any]struct{})
	}
	x.hung[identity(r.errs[r.read])] = struct{}{}
	r.left = true
	return r.read, true
}

func (r *errorReader) run() {
	defer close(r.exited)
	goesOn := true
	defer func() {
		if goesOn { // a method has called runtime.Goexit
			r.count(0)
		}
	}()
	for i, err := range r.errs {
		if err != nil {
			switch hangs, tooMany := r.all.hangs(err); {
			case hangs:
				r.texts[i].text = fmt.Sprintf("(%T, whose methods do not return)", err)
			case tooMany:
				r.texts[i].text = fmt.Sprintf("(%T, which is not read, for methods of %d others do not return)", err, mostHung)
			default:
				r.texts[i] = readError(err)
			}
		}
		if goesOn = r.count(1); !goesOn {
			return
		}
	}
	goesOn = false
}

// count counts n more errors as read, and reports whether somebody waits for the others.
func (r *errorReader) count(n int) bool {
	x := r.all
	x.mu.Lock()
	defer x.mu.Unlock()
	if r.left {
		delete(x.hung, identity(r.errs[r.read]))
		return false
	}
	r.read += n
	return true
}

// readError reads one. It calls the methods of err, and of what it wraps.
func readError(err error) (t errorText) {
	defer func() {
		if v := recover(); v != nil {
			t.text = fmt.Sprintf("(%T, whose methods panic)", err)
		}
	}()
	if depth(err) > deepestError {
		return errorText{text: fmt.Sprintf("(%T, which wraps more than %d others)", err, deepestError)}
	}
	t.text = abridge(err.Error(), mostErrorText)
	var (
		panicked *taskmanager.PanicError
		overdue  *taskmanager.OverdueError
		late     *taskmanager.StopTimeoutError
	)
	switch {
	case errors.As(err, &overdue):
		t.stack = readableStack(string(overdue.Stack))
	case errors.As(err, &panicked):
		t.stack = string(panicked.Stack())
	case errors.As(err, &late):
		t.stack = readableStack(string(late.Stack))
	}
	return t
}

// depth is how many errors err wraps, counted to deepestError and one more.
func depth(err error) int {
	n := 0
	var follow func(error)
	follow = func(err error) {
		for err != nil {
			if n++; n > deepestError {
				return
			}
			switch e := err.(type) { //nolint:errorlint // it follows the chain itself
			case interface{ Unwrap() error }:
				err = e.Unwrap()
			case interface{ Unwrap() []error }:
				for _, one := range e.Unwrap() {
					follow(one)
				}
				return
			default:
				return
			}
		}
	}
	follow(err)
	return n
}

// identity is what an error is known by: itself, or its type if it can't be compared.
func identity(err error) any {
	if reflect.ValueOf(err).Comparable() {
		return err
	}
	return reflect.TypeOf(err)
}

// hangs reports whether a method of err, or of one like it, has not returned; and whether those of too many others have not.
func (x *errorTexts) hangs(err error) (is, tooMany bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, is = x.hung[identity(err)]
	return is, len(x.hung) >= mostHung
}
