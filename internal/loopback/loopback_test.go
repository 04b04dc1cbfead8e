package loopback

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestIs(t *testing.T) {
	for address, want := range map[string]bool{
		"localhost:1": true, "127.0.0.1:1": true, "127.9.9.9": true, "[::1]:1": true, "/run/x.sock": true, "[::ffff:127.0.0.1]:1": true,
		"10.0.0.1:1": false, "db.example.com:1": false, "": false, ":8080": false, "localhost.example.com:1": false, "[::]:1": false, "0.0.0.0:1": false,
	} {
		assert.Equal(t, want, Is(address), address)
	}
}

func TestAddr(t *testing.T) {
	assert.True(t, Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}))
	assert.True(t, Addr(&net.TCPAddr{IP: net.IPv6loopback}))
	assert.True(t, Addr(&net.UnixAddr{Net: "unix"}))
	assert.False(t, Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}))
	assert.False(t, Addr(&net.TCPAddr{Port: 8080}), "every address of the machine")
}
