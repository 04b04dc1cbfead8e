package postgrescdc

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestAuthoritiesAreReadAgain(t *testing.T) {
	testenv.AuthoritiesAreReadAgain(t, func(tlsYAML string) func() (*tls.Config, error) {
		conf, err := spec().ParseYAML("name: a\ndsn: postgres://u:p@db.example/shop\n"+tlsYAML, nil)
		require.NoError(t, err)
		c, err := parseConfig(conf, "a")
		require.NoError(t, err)
		return func() (*tls.Config, error) {
			fresh, err := c.fresh()
			if err != nil {
				return nil, err
			}
			assert.Equal(t, "db.example", fresh.TLSConfig.ServerName)
			return fresh.TLSConfig, nil
		}
	})
}
