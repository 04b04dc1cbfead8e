package deltaforge

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPlatforms type-checks the library and the binary for the platforms that they are for. Of other modules the declarations are
// enough: that takes seconds, where compiling for five platforms would take minutes.
func TestPlatforms(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the source of every dependency once a platform")
	}
	for _, c := range []struct{ goos, goarch, pkg string }{
		{"linux", "arm64", "./cmd/deltaforge"},
		{"darwin", "arm64", "./cmd/deltaforge"},
		{"darwin", "amd64", "./cmd/deltaforge"},
		{"windows", "amd64", "."},
	} {
		t.Run(c.goos+"/"+c.goarch, func(t *testing.T) {
			assert.Empty(t, typeErrors(t, c.goos, c.goarch, c.pkg))
		})
	}
}

// newestEngine is the newest version of the engine that is known to work. The one in go.mod is the oldest.
const newestEngine = "v4.78.0"

// TestNewestEngine type-checks the binary with the newest engine: a distribution may have it.
func TestNewestEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the source of every dependency")
	}
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	mod := filepath.Join(dir, "go.mod")
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-require=github.com/redpanda-data/benthos/v4@"+newestEngine, mod).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Empty(t, typeErrors(t, "linux", "amd64", "./cmd/deltaforge", "-modfile="+mod, "-mod=mod"))
	text, err := os.ReadFile(mod)
	require.NoError(t, err)
	assert.Contains(t, string(text), "redpanda-data/benthos/v4 "+newestEngine)
}

// TestBundleIsLean: who imports the bundle compiles nothing that only the demo, the tests or the tools need.
func TestBundleIsLean(t *testing.T) {
	modules := func(pkg string) []string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", pkg).Output()
		require.NoError(t, err)
		return slices.Compact(slices.Sorted(strings.FieldsSeq(string(out))))
	}
	bundle := modules(".")
	for _, m := range []string{
		"github.com/fergusstrange/embedded-postgres", "github.com/twmb/franz-go/pkg/kfake", "github.com/stretchr/testify", "go.uber.org/goleak",
	} {
		assert.NotContains(t, bundle, m)
	}
	assert.Contains(t, modules("./cmd/deltaforge"), "github.com/twmb/franz-go/pkg/kfake", "the demo is in the binary: the check sees modules")
	assert.LessOrEqual(t, len(bundle), 90, "%v", bundle)
}

// A platform's error is found.
func TestPlatformErrorIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("reads the source of dependencies")
	}
	errs := typeErrors(t, "windows", "amd64", "./internal/testenv/unixonly")
	require.NotEmpty(t, errs)
	assert.Contains(t, errs[0], "Kill")
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
	Module          *struct{ Main bool }
}

// typeErrors returns what is wrong with our packages among a package and its dependencies, on a platform without cgo.
func typeErrors(t *testing.T, goos, goarch, pkg string, flags ...string) (wrong []string) {
	t.Helper()
	args := append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Module"}, flags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	known := map[string]*types.Package{"unsafe": types.Unsafe}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; { // dependencies come before what needs them
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return wrong
		} else if err != nil {
			t.Fatal(err)
		}
		if p.ImportPath == "unsafe" {
			continue
		}
		ours := p.Module != nil && p.Module.Main
		fset := token.NewFileSet()
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			files = append(files, f)
		}
		conf := types.Config{
			IgnoreFuncBodies: !ours, FakeImportC: true, Sizes: types.SizesFor("gc", goarch),
			Importer: packages{known, p.ImportMap},
			Error: func(err error) {
				if ours {
					wrong = append(wrong, err.Error())
				}
			},
		}
		known[p.ImportPath], _ = conf.Check(p.ImportPath, fset, files, nil) // errors come by conf.Error
	}
}

// packages are those that were checked before.
type packages struct {
	known map[string]*types.Package
	names map[string]string // what an import means, where it is not what it says
}

// Import implements types.Importer.
func (p packages) Import(path string) (*types.Package, error) {
	if other, ok := p.names[path]; ok {
		path = other
	}
	if pkg := p.known[path]; pkg != nil {
		return pkg, nil
	}
	return nil, errors.New("not there: " + path)
}
