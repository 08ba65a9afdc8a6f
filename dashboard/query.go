package dashboard

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-taskmanager/taskmanager"
)

// A problem is why a request is not served: a status, and what is said of it.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

func badRequest(format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

const (
	usualPerPage = 100
	leastPerPage = 10
	mostPerPage  = 1000
	mostPages    = 1_000_000
	mostText     = 1000 // bytes to search for
)

// A listQuery says which tasks are shown, and in which order. It is all in the address, so that it can be kept and sent to others.
type listQuery struct {
	text   string
	states []taskmanager.State // none: all
	sort   *column
	desc   bool
	page   int // from 1
	per    int
}

// parseListQuery reads the parameters of a list. Others are left alone: a proxy's, say.
func parseListQuery(v url.Values) (q listQuery, p *problem) {
	q = listQuery{text: strings.TrimSpace(v.Get("q")), sort: columnNamed("trouble"), page: 1, per: usualPerPage}
	if len(q.text) > mostText || !utf8.ValidString(q.text) {
		return q, badRequest("The text to look for must be valid UTF-8, and have %d bytes at most.", mostText)
	}
	for _, name := range v["state"] {
		if name == "" {
			continue // of a form in which none was chosen
		}
		state, ok := stateNamed(name)
		if !ok {
			return q, badRequest("There is no state %s: one of %s.", quoted(name), strings.Join(stateNames(), ", "))
		}
		if !slices.Contains(q.states, state) {
			q.states = append(q.states, state)
		}
	}
	if name := v.Get("sort"); name != "" {
		if q.sort = columnNamed(name); q.sort == nil {
			return q, badRequest("There is no column %s: one of %s.", quoted(name), strings.Join(columnNames(), ", "))
		}
	}
	switch desc := v.Get("desc"); desc {
	case "", "0":
	case "1":
		q.desc = true
	default:
		return q, badRequest("desc is 1 or 0, and not %s.", quoted(desc))
	}
	var err error
	if text := v.Get("page"); text != "" {
		if q.page, err = strconv.Atoi(text); err != nil || q.page < 1 || q.page > mostPages {
			return q, badRequest("page is a number from 1 to %d, and not %s.", mostPages, quoted(text))
		}
	}
	if text := v.Get("per"); text != "" {
		if q.per, err = strconv.Atoi(text); err != nil || q.per < leastPerPage || q.per > mostPerPage {
			return q, badRequest("per is a number from %d to %d, and not %s.", leastPerPage, mostPerPage, quoted(text))
		}
	}
	return q, nil
}

// values are the parameters by which q is read, without those that are as by default.
func (q listQuery) values() url.Values {
	v := url.Values{}
	if q.text != "" {
		v.Set("q", q.text)
	}
	for _, s := range q.states {
		v.Add("state", s.String())
	}
	if q.sort.name != "trouble" {
		v.Set("sort", q.sort.name)
	}
	if q.desc {
		v.Set("desc", "1")
	}
	if q.page > 1 {
		v.Set("page", strconv.Itoa(q.page))
	}
	if q.per != usualPerPage {
		v.Set("per", strconv.Itoa(q.per))
	}
	return v
}

// link is the relative address of q, as a page of that name has it.
func (q listQuery) link(page string) string {
	if v := q.values(); len(v) > 0 {
		return page + "?" + v.Encode()
	}
	return page
}

// isFiltered reports whether q shows some tasks only.
func (q listQuery) isFiltered() bool { return q.text != "" || len(q.states) > 0 }

// wants reports whether tasks in that state are shown.
func (q listQuery) wants(s taskmanager.State) bool {
	return len(q.states) == 0 || slices.Contains(q.states, s)
}

// Where a task is in the address: a parameter "task" for each element of its path. A name may have any character, so none is left to
// separate them.

// taskQuery is the address of a task: the query of a page.
func taskQuery(path []string) string { return url.Values{"task": path}.Encode() }

// parseSelected reads the value of a checkbox, which is a taskQuery.
func parseSelected(value string) (path []string, p *problem) {
	v, err := url.ParseQuery(value)
	if err != nil || len(v["task"]) == 0 || len(v) != 1 {
		return nil, badRequest("A selected task is named as in task=NAME, and not by %s.", quoted(value))
	}
	return v["task"], nil
}

// quoted is text of a request in an answer: not too much of it.
func quoted(text string) string {
	const most = 100
	return strconv.QuoteToGraphic(cut(text, most))
}

// states are all states, in the order in which they are shown.
var states = []taskmanager.State{
	taskmanager.StateFailed, taskmanager.StateStuck, taskmanager.StateBackoff, taskmanager.StatePaused, taskmanager.StateStopping,
	taskmanager.StateWaiting, taskmanager.StateRunning, taskmanager.StateCompleted, taskmanager.StateStopped,
}

func stateNames() (names []string) {
	for _, s := range states {
		names = append(names, s.String())
	}
	return names
}

func stateNamed(name string) (taskmanager.State, bool) {
	i := slices.IndexFunc(states, func(s taskmanager.State) bool { return s.String() == name })
	if i < 0 {
		return 0, false
	}
	return states[i], true
}
