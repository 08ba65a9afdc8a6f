package dashboard

import (
	"net/http"
)

// confirmPage asks whether to do something.
type confirmPage struct {
	layout

	Action ActionName
	Rows   []*listRow
	Gone   [][]string // of which there is no task
	Back   string
	List   string
	OfTask bool
	Count  int
}

func (p confirmPage) Do() string { return p.Action.title() }

// back is the address of the page from which an order came.
func (o *order) back() string {
	if o.ofTask && len(o.paths) == 1 {
		return "task?" + taskQuery(o.paths[0])
	}
	return o.from.link("./")
}

func (d *dashboard) writeConfirm(w http.ResponseWriter, r *http.Request, o *order) {
	page := confirmPage{
		layout: d.layout(r, "confirm", o.action.title()+"?"), Action: o.action, Back: o.back(), List: o.from.values().Encode(), OfTask: o.ofTask,
	}
	var places []place
	for _, path := range o.paths {
		if t, ok := lookup(d.manager(), path); ok {
			places = append(places, place{task: t})
		} else {
			page.Gone = append(page.Gone, path)
		}
	}
	for _, row := range d.rowsOf(places) {
		page.Rows = append(page.Rows, newListRow(row))
	}
	page.Count = len(page.Rows)
	writeHTML(w, http.StatusOK, "confirm.html", page)
}

// An outcome is what has become of an action on one task.
type outcome struct {
	Path   []string `json:"path"`
	Status int      `json:"status"` // of HTTP: 200 done, 202 under way; or why not
	Text   string   `json:"text"`
}

func (o outcome) Failed() bool { return o.Status >= http.StatusBadRequest }

// writeOutcomes says what has become of an order: that of one failure is the status of the answer, and so is that of several if they are
// alike.
func (d *dashboard) writeOutcomes(w http.ResponseWriter, r *http.Request, o *order, outcomes []outcome, form format) {
	status, failed := http.StatusOK, 0
	for _, one := range outcomes {
		switch {
		case !one.Failed():
			continue
		case failed == 0:
			status = one.Status
		case status != one.Status:
			status = http.StatusConflict
		}
		failed++
	}
	switch {
	case form == formatJSON:
		writeJSON(w, status, struct {
			Action  ActionName `json:"action"`
			Results []outcome  `json:"results"`
		}{o.action, outcomes})
	case failed == 0:
		w.Header().Set("Location", o.location(len(outcomes))) // http.Redirect would take it for a path below that which StripPrefix has left
		w.WriteHeader(http.StatusSeeOther)
	default:
		writeHTML(w, status, "outcomes.html", struct {
			layout
			Outcomes []outcome
			Failed   int
			Back     string
		}{d.layout(r, "outcomes", o.action.title()), outcomes, failed, o.back()})
	}
}

func (d *dashboard) serveActHTML(w http.ResponseWriter, r *http.Request) *problem {
	return d.serveAct(w, r, formatHTML)
}

func (d *dashboard) serveActJSON(w http.ResponseWriter, r *http.Request) *problem {
	return d.serveAct(w, r, formatJSON)
}
