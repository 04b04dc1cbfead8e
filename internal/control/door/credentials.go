// Package door is who may call the control plane: credentials, hosts and certificates.
package door

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/deltaforge/deltaforge/internal/redact"
)

// Credentials are what callers may show. Any of them will do.
type Credentials struct {
	// Token is a bearer token; empty: none.
	Token string
	// Users are the passwords of basic authentication by user name.
	Users map[string]string
}

// Any reports whether there are any.
func (c Credentials) Any() bool { return c.Token != "" || len(c.Users) > 0 }

// Learn makes the credentials known as secrets of the process.
func (c Credentials) Learn() {
	redact.Add(c.Token)
	for _, password := range c.Users {
		redact.Add(password)
	}
}

// Validate reports what is wrong with the credentials.
func (c Credentials) Validate() error {
	if strings.TrimSpace(c.Token) != c.Token {
		return errors.New("control plane token: want no white space around it")
	}
	for user, password := range c.Users {
		if user == "" || password == "" {
			return errors.New("control plane user: want user:password, neither of them empty")
		}
	}
	return nil
}

// tokenUser is the user that the audit log names for a bearer token.
const tokenUser = "token"

// User returns who the request says it is, if it proves it.
func (c Credentials) User(r *http.Request) (name string, ok bool) {
	if token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found {
		return tokenUser, c.Token != "" && same(token, c.Token)
	}
	name, password, found := r.BasicAuth()
	if !found {
		return "", false
	}
	want, known := c.Users[name]
	return name, same(password, want) && known
}

// same compares without telling by its duration where two secrets differ, or how long they are.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// OwnHost reports whether a Host header is one that no name server has a say in.
func OwnHost(header string) bool {
	host := HostOnly(header)
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// HostOnly returns a Host header without its port.
func HostOnly(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.Trim(header, "[]")
}
