package metrics

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the reference page and the golden files instead of comparing them") //nolint:gochecknoglobals // a flag

func TestReferencePage(t *testing.T) {
	page := filepath.Join("..", "docs", "reference", "metrics.md")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(page), 0o755))
		require.NoError(t, os.WriteFile(page, []byte(Reference()), 0o644))
		return
	}
	want, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, string(want), Reference(), "the page is stale: go test ./metrics -update")
}
