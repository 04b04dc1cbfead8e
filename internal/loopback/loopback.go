// Package loopback tells which addresses nobody reaches but this machine.
package loopback

import "net"

// Is reports whether only this machine reaches an address: host:port, host, or the path of a Unix socket.
func Is(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return host == "localhost" || len(host) > 0 && host[0] == '/' || net.ParseIP(host).IsLoopback()
}

// Addr reports the same of an end of a connection, or of a listener.
func Addr(a net.Addr) bool { return a.Network() == "unix" || Is(a.String()) }
