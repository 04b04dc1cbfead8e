package wire

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/loopback"
)

// How the password is proved. A server chooses the method, and whoever can stand between us and the server can choose one for it. So a
// method that gives the password away needs a connection that nobody can stand in: TLS, a Unix socket, or the loopback interface.
//
//	mysql_native_password, client_ed25519  a proof that does not contain the password
//	caching_sha2_password, sha256_password a proof, or the password: as it is over TLS or a socket, else encrypted with the server's key
//	mysql_clear_password                   the password as it is: over TLS or a socket only
//
// None of them has a cost that the server sets. Others, such as MariaDB's parsec, which has one, are not supported.

// The answers of caching_sha2_password and sha256_password (MySQL internals, "Authentication").
const (
	sha2Fast       = 3
	sha2Full       = 4
	sha2RequestKey = 2
	sha256Request  = 1
)

const (
	// seedSize is that of the random bytes that a proof is made with; servers send a zero after them.
	seedSize = 20
	// ed25519SeedSize is that of client_ed25519.
	ed25519SeedSize = 32
	// maxKeyBits bounds the work that a key makes.
	maxKeyBits = 8192
)

// private reports a connection whose bytes nobody else sees.
func (c *Conn) private() bool { return c.srv.TLS != nil || c.srv.network == "unix" }

// local reports a connection that does not leave the machine.
func (c *Conn) local() bool {
	return c.srv.network == "unix" || loopback.Addr(c.raw.RemoteAddr())
}

func authError(format string, args ...any) error {
	return fault.WithKind(fault.KindAuth, fmt.Errorf(format, args...))
}

// wayOut is what lets a password travel.
const wayOut = "set tls: {enabled: true}, or connect over the server's Unix socket"

// proof returns the first answer to a method, and refuses one that would give the password away.
func (c *Conn) proof(method string, seed []byte) ([]byte, error) {
	password := []byte(c.srv.password)
	if len(password) == 0 {
		return nil, nil
	}
	switch method {
	case mysql.AUTH_NATIVE_PASSWORD, mysql.AUTH_CACHING_SHA2_PASSWORD:
		if len(seed) < seedSize {
			return nil, errShort
		}
		if method == mysql.AUTH_NATIVE_PASSWORD {
			return mysql.CalcNativePassword(seed[:seedSize], password), nil
		}
		if err := c.mayEncrypt(method); err != nil {
			return nil, err
		}
		return mysql.CalcCachingSha2Password(seed[:seedSize], password), nil
	case mysql.AUTH_MARIADB_ED25519:
		if len(seed) != ed25519SeedSize {
			return nil, errShort
		}
		return mysql.CalcEd25519Password(seed, c.srv.password)
	case mysql.AUTH_SHA256_PASSWORD:
		if c.private() {
			return append(password, 0), nil
		}
		return []byte{sha256Request}, c.mayEncrypt(method)
	case mysql.AUTH_CLEAR_PASSWORD:
		if !c.private() && !c.srv.AllowClear {
			return nil, authError("the server asks for the password in clear text (%s), and the connection has no TLS: it was not sent; %s; "+
				"allow_cleartext_password: true sends it all the same", method, wayOut)
		}
		return append(password, 0), nil
	default:
		return nil, authError("the server asks for the method %q, which is not supported: ALTER USER … IDENTIFIED WITH "+
			"caching_sha2_password (MySQL) or ed25519 (MariaDB)", method)
	}
}

// mayEncrypt refuses a method that would encrypt the password with whatever key comes over a network.
func (c *Conn) mayEncrypt(method string) error {
	if c.private() || c.srv.PublicKeyFile != "" || c.local() || c.srv.AllowClear {
		return nil
	}
	return authError("the method %s sends the password encrypted with a key that comes from the server, and without TLS nobody can tell whose "+
		"key that is: it was not sent; %s, or set server_public_key_file to a copy of the server's public_key.pem; allow_cleartext_password: true takes any key", method, wayOut)
}

// full answers a method that wants the password itself.
func (c *Conn) full(request byte, seed []byte) error {
	if c.private() {
		return c.write(append([]byte(c.srv.password), 0))
	}
	key, err := c.publicKey(request)
	if err != nil {
		return err
	}
	if len(seed) < seedSize {
		return errShort
	}
	encrypted, err := mysql.EncryptPassword(c.srv.password, seed[:seedSize], key)
	if err != nil {
		return authError("encrypting the password with the server's key: %w", err)
	}
	return c.write(encrypted)
}

// publicKey is the configured key, else, on this machine only, the one that the server sends when it is asked with request; 0: it comes
// without being asked.
func (c *Conn) publicKey(request byte) (*rsa.PublicKey, error) {
	if c.srv.PublicKeyFile != "" {
		data, err := os.ReadFile(c.srv.PublicKeyFile)
		if err != nil {
			return nil, fmt.Errorf("server_public_key_file: %w", err)
		}
		key, err := parseKey(data)
		if err != nil {
			return nil, fmt.Errorf("server_public_key_file: %s: %w", c.srv.PublicKeyFile, err)
		}
		return key, nil
	}
	if err := c.mayEncrypt("that the server uses"); err != nil {
		return nil, err
	}
	if request != 0 {
		if err := c.write([]byte{request}); err != nil {
			return nil, err
		}
	}
	reply, err := c.reply()
	if err != nil {
		return nil, err
	}
	if reply[0] != mysql.MORE_DATE_HEADER {
		return nil, errReply
	}
	return parseKey(reply[1:])
}

func parseKey(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("want a public key in PEM form")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() > maxKeyBits {
		return nil, fmt.Errorf("want an RSA key of at most %d bits", maxKeyBits)
	}
	return key, nil
}

// authenticate goes on after the first answer, until the server is content.
func (c *Conn) authenticate(method string, seed []byte) error {
	for switched := false; ; {
		reply, err := c.reply()
		if err != nil {
			return err
		}
		switch reply[0] {
		case mysql.OK_HEADER:
			return nil
		case mysql.EOF_HEADER:
			if switched {
				return errReply
			}
			switched = true
			if method, seed, err = parseSwitch(reply); err != nil {
				return err
			}
			answer, err := c.proof(method, seed)
			if err != nil {
				return err
			}
			if err := c.write(answer); err != nil {
				return err
			}
			if method == mysql.AUTH_SHA256_PASSWORD {
				return c.finishSHA256(seed)
			}
		case mysql.MORE_DATE_HEADER:
			if method != mysql.AUTH_CACHING_SHA2_PASSWORD || len(reply) < 2 {
				return errReply
			}
			if reply[1] == sha2Full {
				err = c.full(sha2RequestKey, seed)
			} else if reply[1] != sha2Fast {
				err = errReply
			}
			if err != nil {
				return err
			}
			return c.ok()
		default:
			return errReply
		}
	}
}

// finishSHA256 ends sha256_password, whose first answer was the password or the request for a key.
func (c *Conn) finishSHA256(seed []byte) error {
	if len(c.srv.password) > 0 && !c.private() {
		if err := c.full(0, seed); err != nil {
			return err
		}
	}
	return c.ok()
}

// ok reads the end of something.
func (c *Conn) ok() error {
	reply, err := c.reply()
	if err == nil && reply[0] != mysql.OK_HEADER {
		err = errReply
	}
	return err
}
