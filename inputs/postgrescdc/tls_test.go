package postgrescdc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Authorities that were replaced on disk are used by the next connection.
func TestAuthoritiesAreReadAgain(t *testing.T) {
	dir := testenv.TempDir(t, "ca.pem")
	file := filepath.Join(dir, "ca.pem")
	first, second := testenv.Authority(t), testenv.Authority(t)
	require.NoError(t, os.WriteFile(file, first, 0o600))
	conf, err := spec().ParseYAML("name: a\ndsn: postgres://u:p@db.example/shop\ntls: {enabled: true, root_cas_file: "+file+"}\n", nil)
	require.NoError(t, err)
	c, err := parseConfig(conf, "a")
	require.NoError(t, err)
	before, err := c.fresh()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, second, 0o600))
	after, err := c.fresh()
	require.NoError(t, err)
	assert.False(t, before.TLSConfig.RootCAs.Equal(after.TLSConfig.RootCAs))
	assert.Equal(t, "db.example", after.TLSConfig.ServerName)
	require.NoError(t, os.Remove(file))
	_, err = c.fresh()
	assert.ErrorContains(t, err, "reading the files of tls")
}
