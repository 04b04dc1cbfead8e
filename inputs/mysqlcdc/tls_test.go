package mysqlcdc

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
	require.NoError(t, os.WriteFile(file, testenv.Authority(t), 0o600))
	conf, err := spec().ParseYAML("name: a\ndsn: u:p@tcp(db.example:3306)/\ntls: {enabled: true, root_cas_file: "+file+"}\n", nil)
	require.NoError(t, err)
	c, err := parseConfig(conf, "v")
	require.NoError(t, err)
	before, err := c.server.ReadTLS()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, testenv.Authority(t), 0o600))
	after, err := c.server.ReadTLS()
	require.NoError(t, err)
	assert.False(t, before.RootCAs.Equal(after.RootCAs))
	require.NoError(t, os.Remove(file))
	_, err = c.server.ReadTLS()
	assert.Error(t, err)
}
