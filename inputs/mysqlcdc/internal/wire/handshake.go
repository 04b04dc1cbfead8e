package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// maxHandshake bounds the packets before the server knows who we are.
const maxHandshake = 64 << 10

var (
	errShort = fault.WithKind(fault.KindProtocol, errors.New("the server's packet is too short"))
	errReply = fault.WithKind(fault.KindProtocol, errors.New("the server's reply is not one to what it was asked"))
)

// capabilities are what we understand. Results end with EOF packets, which every version knows.
const capabilities = mysql.CLIENT_PROTOCOL_41 | mysql.CLIENT_SECURE_CONNECTION | mysql.CLIENT_LONG_PASSWORD | mysql.CLIENT_LONG_FLAG |
	mysql.CLIENT_TRANSACTIONS | mysql.CLIENT_PLUGIN_AUTH | mysql.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA | mysql.CLIENT_CONNECT_ATTRS

// utf8mb4 is utf8mb4_general_ci, which both products know.
const utf8mb4 = 45

// greeting is what a server begins with (MySQL internals, "Protocol::HandshakeV10").
type greeting struct {
	capabilities uint32
	method       string
	seed         []byte
}

func parseGreeting(p []byte) (g greeting, err error) {
	c := binlog.Cursor{Rest: p}
	if v := c.Uint(1); v != uint64(mysql.ClassicProtocolVersion) {
		return g, fault.WithKind(fault.KindProtocol, fmt.Errorf("the server speaks version %d of its protocol, not %d: is this the "+
			"port of MySQL's classic protocol?", v, mysql.ClassicProtocolVersion))
	}
	end := bytes.IndexByte(c.Rest, 0)
	c.Take(end + 1) // the version of the server
	c.Take(4)       // the connection's number
	g.seed = append(g.seed, c.Take(8)...)
	c.Take(1)
	g.capabilities = uint32(c.Uint(2))
	c.Take(1 + 2) // character set, status
	g.capabilities |= uint32(c.Uint(2)) << 16
	seed := int(c.Uint(1))
	c.Take(10)
	if end < 0 || c.Short {
		return g, errShort
	}
	if g.capabilities&mysql.CLIENT_PROTOCOL_41 == 0 || g.capabilities&mysql.CLIENT_SECURE_CONNECTION == 0 {
		return g, fault.WithKind(fault.KindProtocol, errors.New("the server is too old: it does not speak the protocol of MySQL 4.1"))
	}
	g.seed = append(g.seed, c.Take(max(seed-8, 13))...)
	if c.Short {
		return g, errShort
	}
	g.method = mysql.AUTH_NATIVE_PASSWORD
	if g.capabilities&mysql.CLIENT_PLUGIN_AUTH != 0 {
		name, _, _ := bytes.Cut(c.Rest, []byte{0})
		g.method = string(name)
	}
	return g, nil
}

// parseSwitch reads a request for another method.
func parseSwitch(p []byte) (method string, seed []byte, err error) {
	name, seed, ok := bytes.Cut(p[1:], []byte{0})
	if !ok {
		return "", nil, errShort
	}
	return string(name), seed, nil
}

// handshake makes a connection of c.raw.
func (c *Conn) handshake(ctx context.Context) error {
	if c.srv.OnPlain != nil && c.srv.TLS == nil && !c.local() {
		c.srv.OnPlain()
	}
	c.use(c.raw)
	c.in.limit = maxHandshake
	p, err := c.reply()
	if err != nil {
		return err
	}
	g, err := parseGreeting(p)
	if err != nil {
		return err
	}
	if c.srv.TLS != nil {
		if err := c.startTLS(ctx, g); err != nil {
			return err
		}
	}
	// Nothing but a proof is given away before the server asks for more.
	method := g.method
	if method != mysql.AUTH_CACHING_SHA2_PASSWORD || c.mayEncrypt(method) != nil {
		method = mysql.AUTH_NATIVE_PASSWORD // the server says if the account has another one
	}
	answer, err := c.proof(method, g.seed)
	if err != nil {
		return err
	}
	if err := c.write(c.response(g, method, answer)); err != nil {
		return err
	}
	if err := c.authenticate(method, g.seed); err != nil {
		return err
	}
	c.in.limit = maxResult
	return nil
}

// response is the answer to the greeting (MySQL internals, "Protocol::HandshakeResponse41").
func (c *Conn) response(g greeting, method string, answer []byte) []byte {
	p := append(c.prelude(g), c.srv.User...)
	p = append(p, 0)
	if g.capabilities&mysql.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA != 0 {
		p = mysql.AppendLengthEncodedInteger(p, uint64(len(answer)))
	} else {
		p = append(p, byte(len(answer)))
	}
	p = append(p, answer...)
	if g.capabilities&mysql.CLIENT_PLUGIN_AUTH != 0 {
		p = append(append(p, method...), 0)
	}
	if g.capabilities&mysql.CLIENT_CONNECT_ATTRS != 0 {
		const name, value = "program_name", "deltaforge"
		p = append(p, byte(len(name)+len(value)+2), byte(len(name)))
		p = append(append(append(p, name...), byte(len(value))), value...)
	}
	return p
}

// prelude is the start of the answer, which is also the request for TLS.
func (c *Conn) prelude(g greeting) []byte {
	flags := uint32(capabilities)
	if c.srv.TLS != nil {
		flags |= mysql.CLIENT_SSL
	}
	p := binary.LittleEndian.AppendUint32(nil, flags&g.capabilities)
	p = binary.LittleEndian.AppendUint32(p, maxPacket)
	return append(append(p, utf8mb4), make([]byte, 23)...)
}

func (c *Conn) startTLS(ctx context.Context, g greeting) error {
	if g.capabilities&mysql.CLIENT_SSL == 0 {
		return authError("the server does not offer TLS, which tls asks for")
	}
	if c.in.start < len(c.in.slab) {
		return errReply // what was sent before TLS must not be taken for what comes through it
	}
	if err := c.write(c.prelude(g)); err != nil {
		return err
	}
	config := c.srv.TLS.Clone()
	if c.srv.ReadTLS != nil {
		var err error
		if config, err = c.srv.ReadTLS(); err != nil {
			return fmt.Errorf("reading the files of tls: %w", err)
		}
	}
	if host, _, err := net.SplitHostPort(c.srv.Address); err == nil && config.ServerName == "" {
		config.ServerName = host
	}
	secure := tls.Client(c.raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("starting TLS: %w", err)
	}
	sequence := c.in.sequence
	c.use(secure)
	c.in.sequence, c.in.limit = sequence, maxHandshake
	return nil
}
