package servers

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A port is given once.
func TestPortsAreReserved(t *testing.T) {
	port, err := FreePort()
	require.NoError(t, err)
	ours, err := reserve(port)
	require.NoError(t, err)
	assert.False(t, ours, "it is somebody's")
}
