package dashboard

import (
	"html/template"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

func drawTimeline([]taskmanager.Event, taskmanager.TaskStats, time.Time) template.HTML { return "" }
