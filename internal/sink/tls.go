package sink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Dial opens a connection.
type Dial = func(ctx context.Context, network, addr string) (net.Conn, error)

// TLSDial returns a Dial that follows the TLS settings of a field, or nil if the field does not turn TLS on. The certificates and authorities
// that the field names are read once to check them, and again for each connection. So the next connection uses a file that was replaced
// on disk.
func TLSDial(p *service.ParsedConfig, timeout time.Duration, field string) (Dial, error) {
	if _, enabled, err := p.FieldTLSToggled(field); err != nil || !enabled {
		return nil, err
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conf, _, err := p.FieldTLSToggled(field)
		if err != nil {
			return nil, fmt.Errorf("reading the files of %s: %w", field, err)
		}
		d := tls.Dialer{NetDialer: &dialer, Config: conf}
		return d.DialContext(ctx, network, addr) // takes the name to verify from addr, unless conf has one
	}, nil
}
