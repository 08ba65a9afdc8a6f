package main

import "context"

// A body is what a task does: as the library's, a function that returns when its context is done.
type body func(ctx context.Context) error

// A group holds the tasks of one side. Its methods are called from one goroutine.
type group interface {
	// start starts body as a task of that name. Before begin it may only note it.
	start(name string, body body) error
	// begin is called once. The tasks that were started before it run when it returns, or soon.
	begin()
	// stopAll ends the context of every task and returns when their bodies have returned.
	stopAll() error
}

// What some groups can do besides; the abilities of their side say so.
type (
	stopper interface {
		// startOne is start. stop ends the context of this task alone; it may return before the body has.
		startOne(name string, body body) (stop func() error, err error)
	}
	finder interface {
		// isRunning may be called from any goroutine.
		isRunning(name string) bool
	}
	teller interface {
		// stats makes a snapshot of all tasks and returns of how many it tells.
		stats() int
		// running counts the tasks that run.
		running() int
	}
	idler interface {
		// startIdle is start of a task that enters c and is idle in that way.
		startIdle(how idleness, name string, c *crowd) error
		// settleIdle returns when n tasks that have entered are idle.
		settleIdle(how idleness, n int) error
	}
)

// An ability is something that a piece of work needs.
type ability uint8

const (
	adds     ability = 1 << iota // starts tasks while others run
	restarts                     // runs a task again that returned an error or panicked
	stops                        // is a stopper
	finds                        // is a finder
	tells                        // is a teller
	idles                        // is an idler
	features                     // has what no other side has: is the library
)

// A side is one of those that are compared.
type side struct {
	name   string
	module string // whose version the results name; "" for what is written here or belongs to Go
	can    ability
	make   func() group
	lacks  string // what a side that is ahead of the library leaves out
}

// The names of those sides to which the others are compared.
const (
	floorName = "floor"
	ourName   = "taskmanager"
)

// sides are listed in the order of the tables.
var sides = []side{
	{
		name: floorName, can: adds | restarts | stops | finds | idles, make: newFloor,
		lacks: "no statistics, events, log, limit, backoff or deadline; a panic loses its stack; a body can't tell why it is stopped",
	},
	{
		name: ourName, module: "github.com/go-taskmanager/taskmanager",
		can: adds | restarts | stops | finds | tells | idles | features, make: newOurs,
	},
	{
		name: "suture v4", module: "github.com/thejerf/suture/v4",
		can: adds | restarts | stops, make: newSuture,
		lacks: "no lookup by name, no statistics, one count of failures for all tasks; the tasks here are added before it begins to serve",
	},
	{
		name: "bare goroutine", can: adds, make: newBare,
		lacks: "no names, no restart, no recover, no stop of a single task: all share a context",
	},
	{
		name: "errgroup", module: "golang.org/x/sync", can: adds, make: newErrgroup,
		lacks: "no names, no restart, no recover, no stop of a single task: all share a context",
	},
	{
		name: "oklog/run", module: "github.com/oklog/run", make: newOklog,
		lacks: "no names, no restart, no recover, no stop of a single task, and all start together",
	},
	{
		name: "conc", module: "github.com/sourcegraph/conc", can: adds, make: newConc,
		lacks: "no names, no restart, no stop of a single task: all share a context",
	},
	{
		name: "tomb v2", module: "gopkg.in/tomb.v2", can: adds, make: newTomb,
		lacks: "no names, no restart, no recover, no stop of a single task: all share a context",
	},
}

// missing are peers that could not be had, and why.
var missing = []string{
	"oversight (cirello.io/oversight, v1 and v2): the Go module proxy answers that it is not available, so it is not measured.",
}

func sideByName(name string) (side, bool) {
	for _, s := range sides {
		if s.name == name {
			return s, true
		}
	}
	return side{}, false
}
