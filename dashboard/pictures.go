package dashboard

import (
	"html/template"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A graphNode is a task as graphs show it.
type graphNode struct {
	label, state, href, title string
	trouble, self             bool
	needs                     []string
	inner                     []graphNode
	more                      int
}

func drawGraph([]graphNode, string) template.HTML { return "" }

func drawTimeline([]taskmanager.Event, taskmanager.TaskStats, time.Time) template.HTML { return "" }
