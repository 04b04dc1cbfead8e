package reference

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const folder = "../../../docs/reference"

// The committed pages are what the specs say today; `go tool -modfile=tools/go.mod task docs` writes them.
func TestPagesAreCurrent(t *testing.T) {
	pages, err := Pages()
	require.NoError(t, err)
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err, "run `go tool -modfile=tools/go.mod task docs`")
		assert.Equal(t, want, string(got), "%s is out of date: run `go tool -modfile=tools/go.mod task docs`", name)
	}
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, f := range files {
		if f.Name() != "metrics.md" { // written by the metrics package
			assert.Contains(t, pages, f.Name(), "a page of a component that is gone")
		}
	}
}
