package taskmanager

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A profile becomes a list of calls, and names the first one of the user's, in the goroutine of the body if it is there.
func TestStackOfAProfile(t *testing.T) {
	src := sourceTree()
	assert.NotEmpty(t, src)
	frame := func(function, file string) string { return "#\t0x4995de\t" + function + "+0x1e\t\t\t" + file + "\n" }
	var (
		read   = frame("bufio.(*Reader).fill", src+"bufio/bufio.go:113")
		body   = frame("main.(*feed).run", "/src/app/feed.go:12")
		helper = frame("example.com/app/pool.work[...]", "/src/app/pool/pool.go:7")
		driver = frame(ownPackage+"(*run).execute", "/src/taskmanager/context.go:90") +
			frame(ownPackage+"(*Task).supervise", "/src/taskmanager/supervise.go:48")
	)
	for name, test := range map[string]struct {
		text, at string
		stack    []string
	}{
		"nothing": {"", "", nil},
		"one goroutine": {
			"1 @ 0x48 0x49\n# labels: {\"task\":\"feed\"}\n" + read + body + driver,
			"main.(*feed).run(feed.go:12)",
			[]string{"bufio.(*Reader).fill(bufio.go:113)", "main.(*feed).run(feed.go:12)"},
		},
		"several at one place": {
			"30 @ 0x48 0x49\n" + read + helper,
			"example.com/app/pool.work[...](pool.go:7)",
			[]string{"30 goroutines:", "bufio.(*Reader).fill(bufio.go:113)", "example.com/app/pool.work[...](pool.go:7)"},
		},
		"the body's goroutine last": {
			"2 @ 0x48\n" + helper + "1 @ 0x49\n" + body + driver,
			"main.(*feed).run(feed.go:12)",
			[]string{"2 goroutines:", "example.com/app/pool.work[...](pool.go:7)", "1 goroutine:", "main.(*feed).run(feed.go:12)"},
		},
		"the body's goroutine first": {
			"1 @ 0x49\n" + body + driver + "1 @ 0x48\n" + helper,
			"main.(*feed).run(feed.go:12)",
			[]string{"1 goroutine:", "main.(*feed).run(feed.go:12)", "1 goroutine:", "example.com/app/pool.work[...](pool.go:7)"},
		},
		"ours alone": {
			"1 @ 0x49\n" + driver, "",
			[]string{ownPackage + "(*run).execute(context.go:90)", ownPackage + "(*Task).supervise(supervise.go:48)"},
		},
		"no call before the first goroutine":   {body, "", nil},
		"lines that are of no call":            {"1 @ 0x49\n#\t0x1\n#\t0x1\tmain.f\tnowhere\n#\t0x1\tmain.f\tx.go:y\n!\t0x1\tmain.f\tx.go:1\nx @ y @ z\n", "", []string{"1 goroutine:", "x goroutines:"}},
		"a directory with a colon in its name": {"1 @ 0x49\n#\t0x1\tmain.f\tC:/src/x.go:1\n", "main.f(x.go:1)", []string{"main.f(x.go:1)"}},
	} {
		at, stack := readProfile([]byte(test.text))
		assert.Equal(t, test.at, at, name)
		assert.Equal(t, test.stack, stack, name)
	}
}

// What is of the standard library is known by its file, or, if that says nothing, by its package.
func TestStackTellsTheUsersCalls(t *testing.T) {
	for name, test := range map[string]struct {
		frame     runtime.Frame
		src, main string
		standard  bool
	}{
		"its file":                 {runtime.Frame{Function: "net/http.Get", File: "/go/src/net/http/client.go"}, "/go/src/", "", true},
		"another file":             {runtime.Frame{Function: "app/http.Get", File: "/src/app/http/client.go"}, "/go/src/", "", false},
		"trimmed":                  {runtime.Frame{Function: "net/http.Get", File: "net/http/client.go"}, "", "example.com/app", true},
		"trimmed, of one element":  {runtime.Frame{Function: "strings.Repeat", File: "strings/strings.go"}, "", "example.com/app", true},
		"trimmed, without modules": {runtime.Frame{Function: "strings.Repeat", File: "strings/strings.go"}, "", "", true},
		"trimmed, of a module":     {runtime.Frame{Function: "example.com/app.F", File: "example.com/app/f.go"}, "", "", false},
		"trimmed, main":            {runtime.Frame{Function: "main.f", File: "app/f.go"}, "", "", false},
		"trimmed, no dot":          {runtime.Frame{Function: "app/poller.Poll", File: "app/poller/p.go"}, "", "app", false},
		"trimmed, no dot, at root": {runtime.Frame{Function: "app.Poll", File: "app/p.go"}, "", "app", false},
		"trimmed, a longer name":   {runtime.Frame{Function: "application.Poll", File: "application/p.go"}, "", "app", true},
	} {
		assert.Equal(t, test.standard, isStandardFrame(test.frame, test.src, test.main), name)
	}
}
