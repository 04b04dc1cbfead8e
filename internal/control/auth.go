package control

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"slices"
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

func (c Credentials) validate() error {
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

// user returns who the request says it is, if it proves it.
func (c Credentials) user(r *http.Request) (name string, ok bool) {
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

// refuse returns why a request may not go on, nil when it may, and who sent it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, open bool) (user string, refused *reply) {
	if origin := r.Header.Get("Origin"); origin != "" {
		if s.allowedOrigin(origin) {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin)
			h.Add("Vary", "Origin")
			h.Set("Access-Control-Expose-Headers", requestIDHeader)
		} else if r.Method != http.MethodGet && r.Method != http.MethodHead {
			// A page in the browser of somebody on this machine must not drive the control plane.
			return "", fail(http.StatusForbidden, "requests from the origin %s are not allowed; see --control-cors-origin", origin)
		}
	}
	if open {
		return "", nil
	}
	if s.opts.Credentials.Any() {
		user, ok := s.opts.Credentials.user(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="deltaforge", Basic realm="deltaforge"`)
			return "", fail(http.StatusUnauthorized, "credentials missing or wrong")
		}
		return user, nil
	}
	if s.opts.Insecure {
		return "", nil
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || !ip.IsLoopback() {
		return "", fail(http.StatusForbidden,
			"the control plane has no credentials, so it answers this to callers on its own machine only; set DELTAFORGE_CONTROL_TOKEN")
	}
	if !ownHost(r.Host) {
		// A page whose name an attacker lets point to this machine must not drive the control plane.
		return "", fail(http.StatusForbidden, "the control plane has no credentials, so it answers this at an IP address or at localhost only, "+
			"not at %s; set DELTAFORGE_CONTROL_TOKEN", hostOnly(r.Host))
	}
	return "", nil
}

// ownHost reports whether a Host header is one that no name server has a say in.
func ownHost(header string) bool {
	host := hostOnly(header)
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// hostOnly returns a Host header without its port.
func hostOnly(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.Trim(header, "[]")
}

func (s *Server) allowedOrigin(origin string) bool {
	return slices.Contains(s.opts.Origins, "*") || slices.Contains(s.opts.Origins, origin)
}

// preflight answers a browser that asks whether it may call.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request, methods []string) bool {
	origin := r.Header.Get("Origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" || !s.allowedOrigin(origin) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+requestIDHeader)
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
