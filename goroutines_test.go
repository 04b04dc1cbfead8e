package deltaforge

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A panic on a goroutine ends the process and every pipeline in it, so each goroutine of ours, and each function of ours that a
// library calls on one of its own, is guarded: by a call of a guard, or by a deferred function that recovers.

// guards are the functions that recover from a panic in the function they are given, or are deferred to do so, and tell of it.
func guards() []string {
	return []string{
		"Do",                     // internal/guard, and what gives it a counter and a log:
		"protect", "startWorker", // internal/coordinator, cmd/deltaforge
		"Guard", "Repeat", // internal/sink
		"guard", "goOn", // internal/control, cmd/deltaforge
		"caught",      // metrics; deferred
		"guarded",     // internal/demo
		"heedGuarded", // cmd/deltaforge
	}
}

// unguarded says of the places without a guard why none can panic.
func unguarded() map[string]string {
	return map[string]string{
		"internal/control/engine/engine.go: release":           "unlocks what its caller has locked, once",
		"inputs/postgrescdc/internal/chunk/wire.go: interrupt": "sets a deadline of a connection",
		"outputs/kafkaout/attempt.go: outcome":                 "runs once a record: it counts, writes to a map that it has made, and sends on a channel that nobody closes",
	}
}

// harmless are calls that may stand beside a guard, and functions that a timer or a context may call.
func harmless() []string {
	return []string{"close", "append", "cancel", "Lock", "Unlock", "Done", "Error"}
}

// called are the functions of a component, or of a client's hooks, that the engine or a client calls on goroutines of its own.
func called(name string) bool {
	return slices.Contains([]string{"Connect", "ReadBatch", "ProcessBatch", "WriteBatch", "ConnectionTest", "Close", "Log", "Printf", "outcome"}, name) ||
		strings.HasPrefix(name, "On") && name != "On"
}

// componentFolders hold components of the engine and hooks of clients.
func componentFolders() []string {
	return []string{"internal/coordinator", "internal/step", "outputs/kafkaout", "outputs/redisout"}
}

// place is where a goroutine begins, or where somebody else's enters.
type place struct {
	name    string // file: what runs
	guarded bool
}

func callee(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func isGuard(c *ast.CallExpr) bool { return slices.Contains(guards(), callee(c.Fun)) }

// recovers reports whether something calls recover.
func recovers(n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			id, plain := c.Fun.(*ast.Ident)
			found = found || plain && id.Name == "recover"
		}
		return true
	})
	return found
}

// startsWithDefer reports whether the body begins with defers of which one recovers.
func startsWithDefer(body *ast.BlockStmt) bool {
	for _, stmt := range body.List {
		d, ok := stmt.(*ast.DeferStmt)
		if !ok {
			return false
		}
		if _, literal := d.Call.Fun.(*ast.FuncLit); isGuard(d.Call) || literal && recovers(d.Call.Fun) {
			return true
		}
	}
	return false
}

// bodyGuarded reports whether all that a goroutine does runs under a guard.
func bodyGuarded(body *ast.BlockStmt) bool {
	if startsWithDefer(body) {
		return true
	}
	guarded, bare := false, false
	ast.Inspect(body, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if isGuard(c) {
			guarded = true
			return false
		}
		_, literal := c.Fun.(*ast.FuncLit)
		bare = bare || !literal && !slices.Contains(harmless(), callee(c.Fun))
		return true
	})
	return guarded && !bare
}

// usesGuard reports whether a function calls a guard, or defers one.
func usesGuard(body *ast.BlockStmt) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		found = found || ok && isGuard(c)
		return true
	})
	return found
}

// runs returns the place of a function that runs on a goroutine of its own.
func runs(file string, f ast.Expr, call *ast.CallExpr) place {
	if lit, ok := f.(*ast.FuncLit); ok {
		return place{file + ": a function literal", bodyGuarded(lit.Body)}
	}
	return place{file + ": " + callee(f), call != nil && isGuard(call) || call == nil && slices.Contains(harmless(), callee(f))}
}

// placesIn returns the places of one file, and the guards that it declares with whether they are some.
func placesIn(file string, f *ast.File) (places []place, declared map[string]bool) {
	declared = map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			places = append(places, runs(file, n.Call.Fun, n.Call))
		case *ast.CallExpr:
			// sync.WaitGroup and errgroup.Group take one function; the Go of a sink's stats, which guards, takes more.
			name := callee(n.Fun)
			if name == "Go" && len(n.Args) == 1 {
				places = append(places, runs(file, n.Args[0], nil))
			}
			if name == "AfterFunc" && len(n.Args) == 2 {
				places = append(places, runs(file, n.Args[1], nil))
			}
		case *ast.FuncDecl:
			if n.Body == nil {
				return true
			}
			if slices.Contains(guards(), n.Name.Name) {
				declared[n.Name.Name] = recovers(n.Body) || usesGuard(n.Body)
			}
			ours := n.Name.Name == "Close" && n.Type.Params.NumFields() == 0 // not the engine's, which has a context
			if n.Recv != nil && called(n.Name.Name) && !ours && slices.Contains(componentFolders(), filepath.ToSlash(filepath.Dir(file))) {
				places = append(places, place{file + ": " + n.Name.Name, usesGuard(n.Body)})
			}
		}
		return true
	})
	return places, declared
}

// supports reports whether a folder has no part in the binary: it is for tests and measurements.
func supports(dir string) bool {
	return slices.ContainsFunc([]string{"internal/testenv", "internal/bench", "internal/e2e", "internal/docgen"}, func(p string) bool {
		return dir == p || strings.HasPrefix(dir, p+"/")
	})
}

func TestEveryGoroutineIsGuarded(t *testing.T) {
	var bare, excused []string
	found := 0
	guarding := map[string]int{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		slashed := filepath.ToSlash(file)
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != "." || d.Name() == "testdata" || supports(slashed)) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		places, declared := placesIn(slashed, f)
		found += len(places)
		for _, p := range places {
			switch _, reason := unguarded()[p.name]; {
			case p.guarded && reason:
				bare = append(bare, p.name+" has a guard, and a reason for none")
			case reason:
				excused = append(excused, p.name)
			case !p.guarded:
				bare = append(bare, p.name)
			}
		}
		for name, does := range declared {
			guarding[name]++
			assert.True(t, does, "%s: %s does not recover", slashed, name)
		}
		return nil
	})
	require.NoError(t, err)
	assert.Empty(t, bare, "a panic here ends the process: call it by a guard")
	assert.Len(t, excused, len(unguarded()), "places without a guard that are no more")
	assert.Greater(t, found, 30, "the reader sees the goroutines")
	for _, name := range guards() {
		assert.NotZero(t, guarding[name], "there is no guard %s", name)
	}
}

// The reader tells guarded places from others.
func TestGoroutineReader(t *testing.T) {
	for code, want := range map[string]bool{
		"go work()":                                         false,
		"go func() { work() }()":                            false,
		"go func() { defer close(c); work() }()":            false,
		"go func() { work(); defer s.caught() }()":          false,
		"go func() { defer func() { work() }(); work() }()": false,
		"go func() { s.guard(name, work); work() }()":       false,
		"wg.Go(work)":                                       false,
		"wg.Go(func() { work() })":                          false,
		"context.AfterFunc(ctx, work)":                      false,
		"time.AfterFunc(d, func() { work() })":              false,

		"go protect(in, name, work)":                                       true,
		"go func() { defer close(c); defer s.caught(); work() }()":         true,
		"go func() { defer func() { _ = recover() }(); work() }()":         true,
		"wg.Go(func() { s.guard(name, func() { work() }) })":               true,
		"wg.Go(func() { if err := guard(work); err != nil { cancel() } })": true,
		"context.AfterFunc(ctx, func() { _ = g.Do(name, work) })":          true,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "a.go", fmt.Sprintf("package a\nfunc f() { %s }\n", code), 0)
		require.NoError(t, err, code)
		places, _ := placesIn("a.go", f)
		require.Len(t, places, 1, code)
		assert.Equal(t, want, places[0].guarded, code)
	}
	for code, want := range map[string]bool{
		"func (o *output) Connect() error { return o.dial() }":                       false,
		"func (o *output) Connect() error { return o.stats.Guard(l, name, o.dial) }": true,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "a.go", "package a\n"+code, 0)
		require.NoError(t, err, code)
		places, _ := placesIn("outputs/redisout/output.go", f)
		assert.Equal(t, []place{{"outputs/redisout/output.go: Connect", want}}, places, code)
	}
}
