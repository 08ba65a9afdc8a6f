package main

import (
	"bytes"
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A mutant is a file in which source[from:to] is replaced.
type mutant struct {
	file     string // its path within the module, with slashes
	source   []byte
	from, to int
	with     string
	what     string
	line     int
	function *function // around the place; nil if the mutant has to be built by itself
}

// A function is where one is in a file: the body is what is between its braces.
type function struct {
	results          string // as in the source
	bodyFrom, bodyTo int
}

// pkg is the directory of the mutant's package, within the module.
func (m mutant) pkg() string { return path.Dir(m.file) }

// body is that of the mutant's function.
func (m mutant) body() []byte {
	return slices.Concat(m.source[m.function.bodyFrom:m.from], []byte(m.with), m.source[m.to:m.function.bodyTo])
}

func (m mutant) mutated() []byte {
	return slices.Concat(m.source[:m.from], []byte(m.with), m.source[m.to:])
}

// diff shows the lines that differ.
func (m mutant) diff() string {
	first := bytes.LastIndexByte(m.source[:m.from], '\n') + 1
	last := len(m.source)
	if end := bytes.IndexByte(m.source[m.to:], '\n'); end >= 0 {
		last = m.to + end
	}
	var b strings.Builder
	for line := range strings.SplitSeq(string(m.source[first:last]), "\n") {
		b.WriteString("-" + line + "\n")
	}
	for line := range strings.SplitSeq(string(m.source[first:m.from])+m.with+string(m.source[m.to:last]), "\n") {
		b.WriteString("+" + line + "\n")
	}
	return b.String()
}

// key tells mutants apart, wherever in its file one is.
func (m mutant) key() string { return key(append([]string{m.file}, strings.Split(m.diff(), "\n")...)) }

// key makes one of the name of a file and the lines of a diff. Indentation and empty lines do not matter.
func key(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		if sign := strings.TrimLeft(line, "+-"); strings.TrimSpace(line) != "" {
			b.WriteString(line[:len(line)-len(sign)] + strings.TrimSpace(sign) + "\n")
		}
	}
	return b.String()
}

// swaps are the operators that are mutated, and into what.
var swaps = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL,
}

// mutantsOf returns all mutants of a file, in the order of their places in it. Some may not be valid.
func mutantsOf(name string, source []byte) ([]mutant, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	offset := func(p token.Pos) int { return files.Position(p).Offset }
	text := func(n ast.Node) string { return string(source[offset(n.Pos()):offset(n.End())]) }
	var functions []*function
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && !recovers(f.Body) {
			fn := &function{bodyFrom: offset(f.Body.Lbrace) + 1, bodyTo: offset(f.Body.Rbrace)}
			if f.Type.Results != nil {
				fn.results = text(f.Type.Results)
			}
			functions = append(functions, fn)
		}
	}
	var mutants []mutant
	add := func(from, to token.Pos, with, what string) {
		m := mutant{
			file: name, source: source, from: offset(from), to: offset(to), with: with, what: what, line: files.Position(from).Line,
		}
		around := func(f *function) bool { return f.bodyFrom <= m.from && m.to <= f.bodyTo }
		if i := slices.IndexFunc(functions, around); i >= 0 {
			m.function = functions[i]
		}
		mutants = append(mutants, m)
	}
	for n := range ast.Preorder(file) {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if with, ok := swaps[n.Op]; ok {
				add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), with.String(), "operator changed")
			}
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				add(n.Pos(), n.X.Pos(), "", "negation removed")
			}
		case *ast.IfStmt:
			if !isNegatedElsewhere(n.Cond) {
				add(n.Cond.Pos(), n.Cond.End(), "!("+text(n.Cond)+")", "condition negated")
			}
		case *ast.BasicLit:
			if i, err := strconv.ParseInt(n.Value, 0, 64); n.Kind == token.INT && err == nil {
				add(n.Pos(), n.End(), strconv.FormatInt(i+1, 10), "constant changed")
			}
		case *ast.Ident:
			if with := map[string]string{"true": "false", "false": "true"}[n.Name]; with != "" {
				add(n.Pos(), n.End(), with, "constant changed")
			}
		case *ast.BlockStmt:
			removals(n.List, add)
		case *ast.CaseClause:
			removals(n.Body, add)
		case *ast.CommClause:
			removals(n.Body, add)
		}
	}
	slices.SortStableFunc(mutants, func(a, b mutant) int { return cmp.Compare(a.from, b.from) })
	return mutants, nil
}

// recovers reports whether a function, itself and not one within it, calls recover: that would do nothing from a branch, which is a
// function within it.
func recovers(body *ast.BlockStmt) (yes bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "recover" {
				yes = true
			}
		}
		_, within := n.(*ast.FuncLit)
		return !within
	})
	return yes
}

// isNegatedElsewhere reports whether another mutant negates the condition.
func isNegatedElsewhere(cond ast.Expr) bool {
	switch e := cond.(type) {
	case *ast.BinaryExpr:
		return e.Op == token.EQL || e.Op == token.NEQ
	case *ast.UnaryExpr:
		return e.Op == token.NOT
	}
	return false
}

// removals adds a mutant without each statement that others do not need in order to build.
func removals(list []ast.Stmt, add func(from, to token.Pos, with, what string)) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt, *ast.BranchStmt:
		default:
			continue
		}
		add(s.Pos(), s.End(), "", "statement removed")
	}
}
