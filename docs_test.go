package taskmanager_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the Go code of the pages may import without saying so.
var pageImports = []string{
	"bufio", "cmp", "context", "errors", "fmt", "log", "log/slog", "maps", "math/rand/v2", "net", "net/http", "net/http/httptest", "os", "os/signal", "slices", "strings", "sync", "syscall",
	"testing", "testing/synctest", "time",

	"github.com/go-taskmanager/taskmanager",
	"github.com/go-taskmanager/taskmanager/dashboard",
	"github.com/go-taskmanager/taskmanager/discord",
	"github.com/go-taskmanager/taskmanager/discord/discordbot",
	"github.com/go-taskmanager/taskmanager/discord/discordtest",
	"github.com/go-taskmanager/taskmanager/health",

	"github.com/bwmarrin/discordgo",
	"github.com/cenkalti/backoff/v4",
	"github.com/oklog/run",
	"github.com/robfig/cron/v3",
	"github.com/thejerf/suture/v4",
	"go.uber.org/fx",
	"golang.org/x/sync/errgroup",
	"golang.org/x/time/rate",
}

// A docPage is a page of the documentation. Its code may rely on the declarations in a comment of the page that begins with a line
// "<!-- go".
type docPage struct {
	path         string
	text         string
	declarations string
	blocks       []docBlock
}

// A docBlock is one fenced block of a page.
type docBlock struct {
	line     int    // of the page, at which its text begins
	language string // what follows the fence
	mark     string // "x" if the line above the fence is <!-- x -->
	text     string
}

// docPages returns README.md and the pages in docs.
func docPages(t *testing.T) []docPage {
	t.Helper()
	paths, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	pages := make([]docPage, 0, len(paths)+1)
	for _, path := range append(paths, "README.md") {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		pages = append(pages, parseDocPage(t, path, string(text)))
	}
	require.Greater(t, len(pages), 2)
	return pages
}

func parseDocPage(t *testing.T, path, text string) docPage {
	t.Helper()
	const fence = "```"
	p := docPage{path: path, text: text}
	mark := regexp.MustCompile(`^<!-- (\S+) -->$`)
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		end := fence
		switch {
		case lines[i] == "<!-- go":
			end = "-->"
		case !strings.HasPrefix(lines[i], fence):
			assert.NotContains(t, lines[i], fence, "%s:%d: a fence that does not begin its line is not read", path, i+1)
			continue
		}
		begin := i + 1
		for i++; i < len(lines) && lines[i] != end; i++ {
		}
		require.Less(t, i, len(lines), "%s:%d: has no end", path, begin)
		content := strings.Join(lines[begin:i], "\n")
		if end != fence {
			p.declarations += content + "\n"
			continue
		}
		b := docBlock{line: begin + 1, language: strings.TrimPrefix(lines[begin-1], fence), text: content}
		if begin > 1 {
			if m := mark.FindStringSubmatch(lines[begin-2]); m != nil {
				b.mark = m[1]
			}
		}
		p.blocks = append(p.blocks, b)
	}
	return p
}

// marked returns the one block of that mark.
func (p *docPage) marked(t *testing.T, mark string) docBlock {
	t.Helper()
	var found []docBlock
	for _, b := range p.blocks {
		if b.mark == mark {
			found = append(found, b)
		}
	}
	require.Len(t, found, 1, "%s: blocks below <!-- %s -->", p.path, mark)
	return found[0]
}

// docPageAt returns one of the pages.
func docPageAt(t *testing.T, path string) docPage {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return parseDocPage(t, path, string(text))
}

// Each block of Go compiles: a file as it stands, declarations in a file of their own, anything else as the body of a function. What a
// piece of code leaves unused is for its reader to use.
func TestDocsCompile(t *testing.T) {
	c := newDocChecker(t)
	t.Run("the pages", func(t *testing.T) {
		found := 0
		for _, p := range docPages(t) {
			for _, b := range p.blocks {
				if b.language == "go" {
					for _, err := range c.check(p.path, b, p.declarations) {
						t.Error(err)
					}
					found++
				}
			}
		}
		assert.Greater(t, found, 10)
	})
	t.Run("the documentation of packages", func(t *testing.T) {
		const declarations = `
			var m *taskmanager.Manager
			var mux *http.ServeMux
			var handler http.Handler
			var conn net.Conn
			var ctx context.Context
			var poll func(context.Context) error`
		found := 0
		for _, pattern := range []string{"*.go", "dashboard/*.go", "discord/*.go", "discord/discordbot/*.go", "health/*.go"} {
			files, err := filepath.Glob(pattern)
			require.NoError(t, err)
			for _, file := range files {
				if strings.HasSuffix(file, "_test.go") {
					continue
				}
				for _, b := range commentBlocks(t, file) {
					for _, err := range c.check(file, b, declarations) {
						t.Error(err)
					}
					found++
				}
			}
		}
		assert.Greater(t, found, 4)
	})
	// A checker that finds no fault would be none.
	const declarations = "var m *taskmanager.Manager"
	for code, want := range map[string]string{
		`_ = m.Stats()`:                             "",
		`task, err := m.StartTask("a", nil)`:        "", // what is unused
		"if m == nil {\n\treturn\n}\n_ = m":         "",
		`return m.Run(context.Background())`:        "",
		"// f is a body.\nfunc f() {}":              "",
		`type manager = taskmanager.Manager`:        "",
		`_ = m.Statistics()`:                        "page.md:7:7: m.Statistics undefined",
		"\n_ = undefinedName":                       "page.md:8:5: undefined: undefinedName",
		`m.StartTask("a", nil, 1)`:                  "page.md:7:23: cannot use 1",
		`m.StopAll(context.Background()`:            "page.md:7:31: ",
		`func f() error {}`:                         "missing return",
		`_ = taskmanager.WithRetries(3)`:            "undefined: taskmanager.WithRetries",
		"package main\n\nfunc main() { m.Stats() }": "page.md:9:15: undefined: m",
		"package main\n\nimport \"fmt\"\n":          "imported and not used",
	} {
		t.Run(code, func(t *testing.T) {
			errs := c.check("page.md", docBlock{line: 7, text: code}, declarations)
			if want == "" {
				assert.Empty(t, errs)
			} else if assert.NotEmpty(t, errs) {
				assert.ErrorContains(t, errs[0], want)
			}
		})
	}
}

// commentBlocks returns the code in a file's comments: lines that begin with a tab.
func commentBlocks(t *testing.T, file string) (blocks []docBlock) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	inside := false
	for i, line := range strings.Split(string(text), "\n") {
		code, ok := strings.CutPrefix(line, "//\t")
		switch last := len(blocks) - 1; {
		case ok && inside:
			blocks[last].text += "\n" + code
		case ok:
			blocks = append(blocks, docBlock{line: i + 1, text: code})
		}
		inside = ok
	}
	return blocks
}

// A docChecker checks the types of code against the packages of pageImports.
type docChecker struct {
	importer types.Importer
	fset     *token.FileSet
}

func newDocChecker(t *testing.T) *docChecker {
	t.Helper()
	workspace, err := filepath.Abs("go.work")
	require.NoError(t, err)
	list := exec.CommandContext(t.Context(), "go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Export"}, pageImports...)...)
	list.Env = append(os.Environ(), "GOWORK="+workspace)
	list.Stderr = os.Stderr
	output, err := list.Output()
	require.NoError(t, err)
	exports := make(map[string]string)
	for d := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p struct{ ImportPath, Export string }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			require.NoError(t, err)
		}
		exports[p.ImportPath] = p.Export
	}
	fset := token.NewFileSet()
	return &docChecker{fset: fset, importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fs.ErrNotExist
		}
		return os.Open(exports[path])
	})}
}

// check returns what is wrong with a block, at the lines of its page.
func (c *docChecker) check(path string, b docBlock, declarations string) (errs []error) {
	at := "//line " + path + ":" + strconv.Itoa(b.line) + ":1\n"
	file := strings.HasPrefix(b.text, "package ")
	source := at + b.text
	if !file {
		var imports strings.Builder
		for _, path := range pageImports {
			imports.WriteString("import " + strconv.Quote(path) + "\n")
		}
		if !isDeclarations(b.text) {
			// A result without a name lets the piece return an error, or nothing.
			source = "func _() (_ error) {\n" + source + "\nreturn\n}"
		}
		source = "package page\n" + imports.String() + declarations + "\n" + source
	}
	parsed, err := parser.ParseFile(c.fset, "declarations", source, parser.SkipObjectResolution)
	if err != nil {
		return []error{err}
	}
	config := types.Config{Importer: c.importer, Error: func(err error) {
		var e types.Error
		if errors.As(err, &e) && e.Soft && !file {
			return // something is not used
		}
		errs = append(errs, err)
	}}
	_, _ = config.Check("page", c.fset, []*ast.File{parsed}, nil) // Error hears of all
	return errs
}

// isDeclarations reports whether code begins with a declaration that is no statement, or of a type.
func isDeclarations(code string) bool {
	for line := range strings.SplitSeq(code, "\n") {
		if line != "" && !strings.HasPrefix(line, "//") {
			return regexp.MustCompile(`^(type \w|func [\w(])`).MatchString(line)
		}
	}
	return false
}

// What a block says that it prints is what an example prints.
func TestDocsShowTheOutputOfExamples(t *testing.T) {
	var examples []string
	for _, pattern := range []string{"example_test.go", "*/example_test.go", "*/*/example_test.go", "lifecycles/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			examples = append(examples, unindented(string(text)))
		}
	}
	require.NotEmpty(t, examples)
	found := 0
	for _, p := range docPages(t) {
		for _, b := range p.blocks {
			if b.language == "go" && strings.Contains(b.text, "// Output:") {
				assert.Contains(t, strings.Join(examples, "\n"), unindented(b.text), "%s:%d: not in the examples", p.path, b.line)
				found++
			}
		}
	}
	assert.NotZero(t, found)
}

// unindented returns text with its lines trimmed: that of the examples is indented, that of the pages is not.
func unindented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// Each link leads to a file of the repository, and to a heading of it. Each page says for whom it is, leads back to the README, and is
// found from there.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`(?:\]\(|src="|srcset=")([^)"\s]+)[)"]`)
	anchors := make(map[string]map[string]bool)
	anchorsOf := func(path string) map[string]bool {
		if anchors[path] == nil {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			anchors[path] = headingAnchors(string(text))
		}
		return anchors[path]
	}
	pages := docPages(t)
	for _, path := range []string{"CHANGELOG.md", "CONTRIBUTING.md"} {
		pages = append(pages, docPageAt(t, path))
	}
	linked := make(map[[2]string]bool)
	for _, p := range pages {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			path := p.path
			if target != "" {
				path = filepath.Join(filepath.Dir(p.path), target)
			}
			_, err := os.Stat(path)
			if !assert.NoError(t, err, "%s: %s", p.path, m[1]) {
				continue
			}
			linked[[2]string{p.path, path}] = true
			if anchor != "" {
				assert.True(t, anchorsOf(path)[anchor], "%s: %s: there is no such heading", p.path, m[1])
			}
		}
	}
	for _, p := range pages {
		if filepath.Dir(p.path) != "docs" {
			continue
		}
		assert.True(t, linked[[2]string{"README.md", p.path}], "the README does not lead to %s", p.path)
		if p.path == "docs/ARCHITECTURE.md" {
			continue // is for those who change the library, and found by CONTRIBUTING.md, too
		}
		assert.True(t, linked[[2]string{p.path, "README.md"}], "%s does not lead to the README", p.path)
		assert.Regexp(t, `^# .+\n\nFor (those|whoever) `, p.text, "%s does not say for whom it is", p.path)
	}
}

// headingAnchors returns the anchors that a forge makes of a page's headings.
func headingAnchors(text string) map[string]bool {
	anchors := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchors[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return anchors
}
