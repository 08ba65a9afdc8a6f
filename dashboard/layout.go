package dashboard

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"asset":     func(name string) string { return name + "?v=" + assets[name].version },
	"taskQuery": func(path []string) template.URL { return template.URL(taskQuery(path)) }, //nolint:gosec // it is encoded
	"selected":  taskQuery,
	"last":      func(path []string) string { return path[len(path)-1] },
	"before":    func(path []string) []string { return path[:len(path)-1] },
	"upTo":      func(path []string, i int) []string { return path[:i+1] },
	"pathText":  pathText,
	"rfc3339":   machineTime,
	"exact":     exactText,
	"number":    numberText,
}).ParseFS(files, "assets/*.html"))

// For the templates.
func (c cell) IsPoint() bool    { return c.Kind != kindFor } // in time, and not how long something takes
func (c cell) HasTime() bool    { return !c.Time.IsZero() }
func (c cell) Relative() string { return relative(c.Kind, c.Time, time.Now()) }

// pathText is the path of a task for people: "group / task".
func pathText(path []string) string { return strings.Join(path, " / ") }

// machineTime is a time as the script reads it.
func machineTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// exactText is a time to the millisecond, in UTC.
func exactText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") + " UTC" }

// numberText is a number, of whatever type, with commas: "10,000".
func numberText(n any) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// A layout is what all pages have.
type layout struct {
	Title    string
	Page     string // its name, for the script
	Manager  string
	Instance string
	Did      string // what was done just now
	JSONLink string // to the same page as JSON, and as text
	TextLink string
	Now      cell
}

func (d *dashboard) layout(r *http.Request, name, title string) layout {
	return layout{
		Title: title, Page: name, Manager: d.manager().Name(), Instance: d.instance, Did: didText(r.URL.Query()),
		Now: cell{Time: time.Now(), Kind: kindAgo},
	}
}

// writeHTML writes a page by its template.
func writeHTML(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "This page can't be written.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client has gone, perhaps
}

// writeProblem says why a request is not served, in the form that was asked for.
func (d *dashboard) writeProblem(w http.ResponseWriter, r *http.Request, form format, p *problem) {
	switch form {
	case formatJSON:
		writeJSON(w, p.status, map[string]string{"error": p.text})
	case formatText:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(p.status)
		_, _ = w.Write([]byte(p.text + "\n"))
	default:
		writeHTML(w, p.status, "problem.html", struct {
			layout
			Text string
		}{d.layout(r, "problem", http.StatusText(p.status)), p.text})
	}
}
