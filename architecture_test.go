package taskmanager

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateArchitecture = flag.Bool("update", false, "write the table in docs/ARCHITECTURE.md anew")

const (
	architecturePage = "docs/ARCHITECTURE.md"
	beginTable       = "<!-- begin table: written by go test -run TestArchitecture . -update -->\n"
	endTable         = "<!-- end table -->\n"
)

func TestArchitectureDrawsTheTable(t *testing.T) {
	text, err := os.ReadFile(architecturePage)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), beginTable)
	require.True(t, ok, "the mark at the begin of the table is missing")
	drawn, after, ok := strings.Cut(rest, endTable)
	require.True(t, ok, "the mark at the end of the table is missing")
	want := table.draw()
	if *updateArchitecture {
		require.NoError(t, os.WriteFile(architecturePage, []byte(before+beginTable+want+endTable+after), 0o644))
		return
	}
	assert.Equal(t, want, drawn, "run: go test -run TestArchitecture . -update")
}

// The README's picture has all states that users see, and no change that the table does not have.
func TestArchitecturePicturedInTheReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "```mermaid\nstateDiagram-v2\n")
	require.True(t, ok)
	picture, _, _ := strings.Cut(rest, "```")
	possible := map[[2]string]bool{{"[*]", StateWaiting.String()}: true}
	for p := range phases {
		for _, row := range table[p] {
			if row.possible {
				possible[[2]string{p.state().String(), row.to.state().String()}] = true
			}
		}
	}
	pictured := make(map[string]bool)
	for line := range strings.Lines(picture) {
		arrow := regexp.MustCompile(`^ +(\S+) --> (\S+): .+\n$`).FindStringSubmatch(line)
		require.NotNil(t, arrow, line)
		assert.True(t, possible[[2]string{arrow[1], arrow[2]}], "the table does not have it: %s", line)
		pictured[arrow[1]], pictured[arrow[2]] = true, true
	}
	for _, name := range stateNames {
		assert.True(t, pictured[name], "%s is not in the picture", name)
	}
}

// draw returns the table as a diagram, and row by row. Rows that differ in the input alone are one.
func (table *transitions) draw() string {
	var diagram, rows strings.Builder
	for p := range phases {
		var (
			targets  []phase
			labels   = make(map[phase][]string)
			ways     []transition
			inputsOf = make(map[transition][]string)
		)
		for in, row := range table[p] {
			if !row.possible {
				continue
			}
			if row.to != p {
				if labels[row.to] == nil {
					targets = append(targets, row.to)
				}
				labels[row.to] = append(labels[row.to], input(in).String())
			}
			if inputsOf[row] == nil {
				ways = append(ways, row)
			}
			inputsOf[row] = append(inputsOf[row], input(in).String())
		}
		for _, to := range targets {
			fmt.Fprintf(&diagram, "    %s --> %s: %s\n", p, to, strings.Join(labels[to], ", "))
		}
		name := fmt.Sprintf("**%s** (%s)", p, p.state())
		for _, way := range ways {
			fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", name, strings.Join(inputsOf[way], ", "), way.to, way.do)
			name = ""
		}
	}
	return "```mermaid\nstateDiagram-v2\n    [*] --> waiting\n" + diagram.String() + "```\n\n" +
		"| phase (State) | input | next | effects |\n|---|---|---|---|\n" + rows.String()
}

// Each file and each name that the page mentions exists.
func TestArchitectureNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile(architecturePage)
	require.NoError(t, err)
	names, locks := declared(t)
	require.NotEmpty(t, locks)
	for _, lock := range locks {
		guarded := strings.Contains(string(text), "`"+lock+"`")
		assert.True(t, guarded, "%s: it is not said what it guards", lock)
	}
	files := make(map[string]bool) // those in the block of the layers
	fenced := false
	code := regexp.MustCompile("`[^`]+`")
	path := regexp.MustCompile(`^[\w./-]+\.(go|md)$|^(internal|dashboard|discord|health|lease)(/\w*)*$`)
	name := regexp.MustCompile(`^[A-Za-z]\w*(\.[A-Za-z]\w*)?$`)
	mentioned := 0
	check := func(line int, word string) {
		switch {
		case path.MatchString(word):
			if strings.HasPrefix(word, "../") {
				return
			}
			assert.True(t, exists(word), "line %d: there is no %s", line, word)
			mentioned++
		case name.MatchString(word):
			assert.True(t, names[word], "line %d: nothing is called %s", line, word)
			mentioned++
		}
	}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if fenced {
			for word := range strings.FieldsSeq(line) {
				if path.MatchString(word) {
					check(i+1, word)
					files[word] = true
				} else if strings.HasSuffix(word, ".mu") {
					check(i+1, word)
				}
			}
			continue
		}
		for _, span := range code.FindAllString(line, -1) {
			check(i+1, strings.Trim(span, "`"))
		}
	}
	assert.Greater(t, mentioned, 100, "the page has not been read")
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	mechanisms, err := filepath.Glob("internal/*")
	require.NoError(t, err)
	for _, file := range append(sources, mechanisms...) {
		if !strings.HasSuffix(file, "_test.go") && !slices.Contains(forTestsAlone, file) {
			assert.True(t, files[file], "%s has no place in the layers", file)
		}
	}
}

// Whoever looks for the tests of a file finds them by its name, and the page says what all others are about.
func TestArchitecturePairsTestFiles(t *testing.T) {
	text, err := os.ReadFile(architecturePage)
	require.NoError(t, err)
	tests, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	require.NotEmpty(t, tests)
	for _, file := range tests {
		subject := strings.TrimSuffix(strings.TrimSuffix(file, "_test.go"), "_internal")
		explained := strings.Contains(string(text), "`"+file+"`")
		assert.True(t, explained || exists(subject+".go"), "%s: there is no %s.go, and %s does not say what it is about", file, subject, architecturePage)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// forTestsAlone are packages of which the library needs nothing.
var forTestsAlone = []string{"internal/lookalike", "internal/picture"}

// declared returns what the packages of this repository declare: functions, types, variables, constants; and "T.x" for
// the methods and fields x of a type T. Those fields of the library that are a mutex are locks.
func declared(t *testing.T) (names map[string]bool, locks []string) {
	t.Helper()
	names = make(map[string]bool)
	var dirs []string
	for _, root := range []string{"internal", "dashboard", "discord", "health", "lease"} {
		require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		}))
	}
	for _, dir := range append(dirs, ".") {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ofLibrary := !strings.HasSuffix(file, "_test.go") && !strings.HasPrefix(dir, "discord") && !strings.HasPrefix(dir, "dashboard/browsertest") &&
				!strings.HasPrefix(dir, "lease") &&
				!slices.Contains(forTestsAlone, dir)
			for _, d := range f.Decls {
				mutexes := declare(names, d)
				if ofLibrary {
					locks = append(locks, mutexes...)
				}
			}
		}
	}
	return names, locks
}

// declare adds what d declares to names, and returns those fields that are a mutex.
func declare(names map[string]bool, d ast.Decl) (mutexes []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names[d.Name.Name] = true
			return nil
		}
		receiver := d.Recv.List[0].Type
		if pointer, ok := receiver.(*ast.StarExpr); ok {
			receiver = pointer.X
		}
		if id, ok := receiver.(*ast.Ident); ok {
			names[id.Name+"."+d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, id := range spec.Names {
					names[id.Name] = true
				}
			case *ast.TypeSpec:
				names[spec.Name.Name] = true
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						for _, id := range field.Names {
							name := spec.Name.Name + "." + id.Name
							names[name] = true
							if isMutex(field.Type) {
								mutexes = append(mutexes, name)
							}
						}
					}
				}
			}
		}
	}
	return mutexes
}

// isMutex reports whether a field's type is one of package sync's mutexes.
func isMutex(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && (s.Sel.Name == "Mutex" || s.Sel.Name == "RWMutex")
}

// What is internal to a module may change with it: a nested module, which has versions of its own, and an example, which is there to
// be copied out, import nothing of that kind.
func TestArchitectureSharesNothingInternal(t *testing.T) {
	const root = "github.com/go-taskmanager/taskmanager"
	modules := make(map[string]string) // the path of each nested module, by its directory
	var sources []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.Name() == "go.mod" && path != "go.mod":
			modules[filepath.Dir(path)] = root + "/" + filepath.ToSlash(filepath.Dir(path))
		case strings.HasSuffix(path, ".go"):
			sources = append(sources, path)
		}
		return nil
	}))
	require.NotEmpty(t, modules)
	for _, file := range sources {
		module, example := "", strings.HasPrefix(file, "examples")
		for dir, path := range modules {
			if strings.HasPrefix(file, dir+string(filepath.Separator)) && len(path) > len(module) { // the innermost
				module = path
			}
		}
		if module == "" && !example {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imported := range f.Imports {
			path := strings.Trim(imported.Path.Value, `"`)
			internal := strings.HasPrefix(path, root) && strings.Contains(path+"/", "/internal/")
			own := module != "" && strings.HasPrefix(path, module+"/")
			assert.False(t, internal && !own, "%s imports %s", file, path)
		}
	}
}
