package dashboard

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// An oddError is an error whose Error method does something else first.
type oddError struct{ does func() }

func (e *oddError) Error() string {
	e.does()
	return "odd"
}

// A wrappingError likewise does something when it is asked what it wraps.
type wrappingError struct{ does func() error }

func (e *wrappingError) Error() string { return "odd wrapper" }
func (e *wrappingError) Unwrap() error { return e.does() }

// An uncomparableError can't be a key of a map.
type uncomparableError struct{ does []func() }

func (e uncomparableError) Error() string {
	e.does[0]()
	return "uncomparable"
}

func textsOf(texts []errorText) (all []string) {
	for _, t := range texts {
		all = append(all, t.text)
	}
	return all
}

func TestErrorTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x errorTexts
		assert.Empty(t, x.read(nil))
		began := time.Now()
		assert.Equal(t, []string{"", "a", "", "b: a"}, textsOf(x.read([]error{nil, errors.New("a"), nil, fmt.Errorf("b: %w", errors.New("a"))})))
		assert.Zero(t, time.Since(began), "nobody waits for what is there")
	})
}

// What an error's methods do is no matter to the others, and to nobody for longer than a page may take.
func TestErrorTextsOfOddErrors(t *testing.T) {
	panics := &oddError{func() { panic("no text") }}
	exits := &oddError{runtime.Goexit}
	self := new(wrappingError)
	self.does = func() error { return self }
	for name, odd := range map[string]struct {
		err  error
		text string
	}{
		"panics":             {panics, "(*dashboard.oddError, whose methods panic)"},
		"exits":              {exits, "(*dashboard.oddError, whose methods call runtime.Goexit)"},
		"wraps what panics":  {&wrappingError{func() error { panic("nothing") }}, "(*dashboard.wrappingError, whose methods panic)"},
		"wraps what exits":   {&wrappingError{func() error { runtime.Goexit(); return nil }}, "(*dashboard.wrappingError, whose methods call runtime.Goexit)"},
		"wraps itself":       {self, "(*dashboard.wrappingError, which wraps more than 1000 others)"},
		"wraps itself twice": {errors.Join(self, self), "(*errors.joinError, which wraps more than 1000 others)"},
		"a nil pointer":      {(*oddError)(nil), "(*dashboard.oddError, whose methods panic)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var x errorTexts
				for range 3 {
					assert.Equal(t, []string{"a", odd.text, "", "b"}, textsOf(x.read([]error{errors.New("a"), odd.err, nil, errors.New("b")})))
				}
				assert.Equal(t, []string{odd.text}, textsOf(x.read([]error{odd.err})))
			})
		})
	}
}

func TestErrorTextsOfErrorsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			x       errorTexts
			release = make(chan struct{})
			calls   atomic.Int32
			hangs   = &oddError{func() { calls.Add(1); <-release }}
			after   = errors.New("after")
			text    = "(*dashboard.oddError, whose methods do not return)"
		)
		began := time.Now()
		assert.Equal(t, []string{"after", text, "after"}, textsOf(x.read([]error{after, hangs, after})))
		assert.LessOrEqual(t, time.Since(began), 2*waitForError)

		// It is not asked again, so nothing piles up.
		began = time.Now()
		for range 100 {
			assert.Equal(t, []string{text, "after"}, textsOf(x.read([]error{hangs, after})))
		}
		assert.Zero(t, time.Since(began))
		assert.Equal(t, int32(1), calls.Load())

		close(release)
		synctest.Wait()
		assert.Equal(t, []string{"odd"}, textsOf(x.read([]error{hangs})), "it has returned, and is asked again")
		assert.Empty(t, x.hung)
	})
}

// Of errors that can't be told apart none is asked while a method of one has not returned.
func TestErrorTextsOfUncomparableErrorsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x errorTexts
		release := make(chan struct{})
		hangs := uncomparableError{[]func(){func() { <-release }}}
		fine := uncomparableError{[]func(){func() {}}}
		text := "(dashboard.uncomparableError, whose methods do not return)"
		assert.Equal(t, []string{text, text}, textsOf(x.read([]error{hangs, fine})))
		close(release)
		synctest.Wait()
		assert.Equal(t, []string{"uncomparable"}, textsOf(x.read([]error{fine})))
	})
}

// However many hang, a page waits for a second or little more, and no more goroutines than mostHung wait for them.
func TestErrorTextsOfManyErrorsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x errorTexts
		release := make(chan struct{})
		errs := make([]error, 500)
		for i := range errs {
			errs[i] = &oddError{func() { <-release }}
		}
		for range 30 {
			began := time.Now()
			texts := x.read(errs)
			assert.LessOrEqual(t, time.Since(began), waitForErrors+waitForError)
			for _, text := range texts {
				assert.Contains(t, text.text, "(*dashboard.oddError, ")
			}
		}
		assert.LessOrEqual(t, len(x.hung), mostHung)
		assert.Equal(t, "(*errors.errorString, which is not read, for methods of 100 others do not return)", x.readOne(errors.New("a")).text,
			"it is not said to hang itself")
		close(release)
		synctest.Wait()
		assert.Empty(t, x.hung)
		assert.Equal(t, "odd", x.readOne(errs[499]).text)
	})
}

// Errors that take their time are read as long as there is some.
func TestErrorTextsOfSlowErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x errorTexts
		errs := make([]error, 100)
		for i := range errs {
			errs[i] = &oddError{func() { time.Sleep(30 * time.Millisecond) }}
		}
		began := time.Now()
		texts := textsOf(x.read(errs))
		assert.LessOrEqual(t, time.Since(began), waitForErrors+waitForError)
		assert.Equal(t, "odd", texts[30])
		assert.Equal(t, "(*dashboard.oddError, for which there was no time)", texts[99])
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Empty(t, x.hung, "the one that was left in the middle has returned")
	})
}
