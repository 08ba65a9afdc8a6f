package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What can be known of an error without its methods is known: a body may return what another Manager, or package context, has given it.
func TestErrorIsClassified(t *testing.T) {
	boom := errors.New("boom")
	stuck := &StopTimeoutError{Task: "b"}
	for name, test := range map[string]struct {
		err               error
		permanent, leaves answer
	}{
		"none":                            {nil, no, no},
		"plain":                           {boom, no, no},
		"wrapped":                         {fmt.Errorf("a: %w", boom), no, no},
		"joined":                          {errors.Join(boom, context.Canceled), no, no},
		"of a path":                       {&fs.PathError{Err: boom}, no, no},
		"panic":                           {&PanicError{Value: boom}, no, no},
		"overdue":                         {&OverdueError{Err: boom}, no, no},
		"given up":                        {&GiveUpError{Err: boom}, no, no},
		"a critical task has completed":   {&criticalCompletedError{"a"}, no, no},
		"permanent":                       {backoff.Permanent(boom), yes, no},
		"permanent within a panic":        {&PanicError{Value: backoff.Permanent(boom)}, yes, no},
		"permanent within an overdue":     {&OverdueError{Err: backoff.Permanent(boom)}, yes, no},
		"permanent within one given up":   {&GiveUpError{Err: backoff.Permanent(boom)}, yes, no},
		"permanent among several":         {errors.Join(boom, backoff.Permanent(boom)), yes, no},
		"stuck":                           {stuck, yes, yes},
		"stuck within one permanent":      {backoff.Permanent(stuck), yes, yes},
		"the user's":                      {wraps{boom}, unknown, unknown},
		"the user's within one given up":  {&GiveUpError{Err: wraps{boom}}, unknown, unknown},
		"the user's among several":        {errors.Join(wraps{boom}, boom), unknown, unknown},
		"the user's beside permanent":     {errors.Join(wraps{boom}, backoff.Permanent(boom)), yes, unknown},
		"asks for time":                   {asks{}, unknown, no},
		"asks for time within a panic":    {fmt.Errorf("a: %w", &PanicError{Value: asks{}}), unknown, no},
		"asks for time, permanent":        {backoff.Permanent(asks{}), yes, no},
		"what a task is bound to is lost": {&lossError{task: "a", on: "b"}, no, no},
	} {
		permanent, leaves := classify(test.err)
		assert.Equal(t, test.permanent, permanent, name)
		assert.Equal(t, test.leaves, leaves, name)
	}
}

// A wraps is an error that may do anything when it is asked what it wraps.
type wraps struct{ err error }

func (w wraps) Error() string { return w.err.Error() }
func (w wraps) Unwrap() error { return w.err }

// An asks is an error that asks for time when it is asked.
type asks struct{}

func (asks) Error() string             { return "asks" }
func (asks) RetryAfter() time.Duration { panic("it is not to be asked") }

// An error that wraps as many as are looked at is followed to its end; one that wraps one more is not.
func TestErrorOfTheMostThatAreLookedAt(t *testing.T) {
	boom := errors.New("boom")
	of := func(n int, err error) error { return errors.Join(slices.Repeat([]error{err}, n-1)...) } // and itself
	for n, most := range map[int]bool{mostErrors - 1: true, mostErrors: true, mostErrors + 1: false} {
		assert.Equal(t, !most, isEndless(of(n, boom)), n)
		if most {
			require.NoError(t, besideCause(of(n, boom), boom), n)
		} else {
			require.Error(t, besideCause(of(n, boom), boom), n)
		}
	}
	assert.Equal(t, 100_000, mostErrors)
	chain := boom
	for range 3 {
		chain = fmt.Errorf("wrapped: %w", chain)
	}
	for left, follows := range map[int]bool{3: false, 4: true} {
		ofClassify := left
		classifyFirst(&ofClassify, chain)
		assert.Equal(t, !follows, ofClassify < 0, left)
		assert.Equal(t, follows, isOnly(&left, chain, boom, inner))
	}
}

// What is wrapped is found as far as it takes no user code.
func TestErrorIncludesAnother(t *testing.T) {
	boom, other := errors.New("boom"), errors.New("other")
	most := func(n int) error { return errors.Join(append(slices.Repeat([]error{other}, n-2), boom)...) }
	for name, test := range map[string]struct {
		err      error
		includes bool
	}{
		"nil":           {nil, false},
		"itself":        {boom, true},
		"another":       {other, false},
		"wrapped":       {fmt.Errorf("wrapped: %w", &GiveUpError{Err: boom}), true},
		"joined":        {errors.Join(other, fmt.Errorf("%w and %w", other, boom), other), true},
		"by the user's": {wraps{boom}, false},
		"as the last":   {most(mostErrors), true},
		"beyond those":  {most(mostErrors + 1), false},
	} {
		assert.Equal(t, test.includes, includes(test.err, boom), name)
	}
}

// What an error of a stopped body wraps is known.
func TestErrorOfAnEndedTaskIsFollowed(t *testing.T) {
	own := &endedError{errors.Join(ErrRestarted, &StopTimeoutError{Task: "below"})}
	permanent, leaves := classify(own)
	assert.Equal(t, [2]answer{yes, yes}, [2]answer{permanent, leaves})
	require.NoError(t, besideCause(&endedError{ErrRestarted}, ErrRestarted))
	assert.True(t, isEndless(&endedError{errors.Join(slices.Repeat([]error{own}, mostErrors)...)}))
}

type (
	textError  string
	manyErrors []string
	anyError   struct{ what any }
)

func (e textError) Error() string  { return string(e) }
func (e manyErrors) Error() string { return fmt.Sprint([]string(e)) }
func (e anyError) Error() string   { return fmt.Sprint(e.what) }

// Errors are compared also if they can't be.
func TestErrorIsTheSame(t *testing.T) {
	boom := errors.New("boom")
	many := manyErrors{"a"}
	for name, test := range map[string]struct {
		a, b error
		same bool
	}{
		"one":                                 {boom, boom, true},
		"two of the same text":                {boom, errors.New("boom"), false},
		"two types":                           {boom, textError("boom"), false},
		"two values":                          {textError("a"), textError("b"), false},
		"equal values":                        {textError("a"), textError("a"), true},
		"values that can't be compared":       {many, many, false},
		"values with what can't be compared":  {anyError{many}, anyError{many}, false},
		"values with what may be, and is not": {anyError{"a"}, anyError{"b"}, false},
		"values with what may be, and is":     {anyError{"a"}, anyError{"a"}, true},
	} {
		assert.NotPanics(t, func() { assert.Equal(t, test.same, isSame(test.a, test.b), name) }, name)
	}
}

// How many references in a row, and how many values, package fmt has to follow to print a value: with one less of either it is not
// printed.
func TestPanicValueIsMeasured(t *testing.T) {
	n := 1
	for name, test := range map[string]struct {
		value        any
		depth, count int
	}{
		"number":             {1, 0, 1},
		"text":               {"a", 0, 1},
		"pointer":            {&n, 1, 2},
		"nil pointer":        {(*int)(nil), 0, 1},
		"numbers":            {make([]int, 100), 0, 1},
		"complex numbers":    {make([]complex128, 100), 0, 1},
		"array of numbers":   {[100]byte{}, 0, 1},
		"texts":              {[]string{"a", "b"}, 1, 3},
		"no texts":           {[]string{}, 0, 1},
		"pointers":           {[]*int{&n, nil, &n}, 2, 6},
		"interfaces":         {[1]any{1}, 2, 3},
		"map":                {map[string]string{"a": "b"}, 1, 3},
		"map of pointers":    {map[string]*int{"a": &n}, 2, 4},
		"map by pointers":    {map[*int]string{&n: "a"}, 2, 4},
		"empty map":          {map[string]string{}, 0, 1},
		"struct":             {struct{ a, b int }{}, 1, 3},
		"struct of pointers": {struct{ a, b *int }{&n, &n}, 2, 5},
		"function":           {func() {}, 0, 1},
	} {
		left := test.count
		assert.True(t, isPrintable(reflect.ValueOf(test.value), test.depth, &left), name)
		assert.Zero(t, left, name)
		left = test.count
		assert.False(t, isPrintable(reflect.ValueOf(test.value), test.depth-1, &left), name)
		left = test.count - 1
		assert.False(t, isPrintable(reflect.ValueOf(test.value), test.depth, &left), name)
	}
}

// A panic's value is printed unless it is deeper than 20 references, or more than 10,000 values.
func TestPanicValueThatIsTooLargeIsToldByItsType(t *testing.T) {
	pointers := func(n int, v any) any { // two references for each
		for range n {
			w := v
			v = &w
		}
		return v
	}
	const tooLarge = "which is too deep or too large to print"
	n := 1
	assert.NotContains(t, valueText(pointers(10, n)), tooLarge)
	assert.Equal(t, "a *interface {}, "+tooLarge, valueText(pointers(10, &n)))
	assert.Equal(t, 9_999, strings.Count(valueText(make([]error, 9_999)), "<nil>"))
	assert.Equal(t, "a []error, "+tooLarge, valueText(make([]error, 10_000)))
	assert.Equal(t, "&{1}", valueText(&struct{ n int }{1}))
}
