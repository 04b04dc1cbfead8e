package metrics

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// emitters returns the source of everything that may emit a series by its name: no tests, not this package, not the dashboard.
func emitters(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (path == filepath.Join("..", "metrics") || path == filepath.Join("..", "resources") ||
			e.Name() == "testdata" || path != ".." && strings.HasPrefix(e.Name(), ".")):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			b, err := os.ReadFile(path)
			all.Write(b)
			return err
		}
		return nil
	}))
	return all.String()
}

// A series is emitted by somebody, or its row says that a pipeline's author does: in both directions.
func TestSeriesAreEmitted(t *testing.T) {
	source := emitters(t)
	for _, r := range table() {
		emitted := strings.Contains(source, `"`+r.stat()+`"`)
		switch {
		case r.remark == byHand:
			assert.False(t, emitted, "%s has an emitter now: the remark is stale", r.series)
		case len(r.feeds) == 0 && r.series != "build_info": // which the exporter sets
			assert.True(t, emitted, "nothing emits %s", r.series)
		}
	}
}
