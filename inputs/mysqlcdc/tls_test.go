package mysqlcdc

import (
	"crypto/tls"
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestAuthoritiesAreReadAgain(t *testing.T) {
	testenv.AuthoritiesAreReadAgain(t, func(tlsYAML string) func() (*tls.Config, error) {
		conf, err := spec().ParseYAML("name: a\ndsn: u:p@tcp(db.example:3306)/\n"+tlsYAML, nil)
		require.NoError(t, err)
		c, err := parseConfig(conf, "v", service.MockResources())
		require.NoError(t, err)
		return c.server.ReadTLS
	})
}
