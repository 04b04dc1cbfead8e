package control

import (
	"net/http"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/internal/control/door"
	"github.com/deltaforge/deltaforge/internal/loopback"
)

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
		user, ok := s.opts.Credentials.User(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="deltaforge", Basic realm="deltaforge"`)
			return "", fail(http.StatusUnauthorized, "credentials missing or wrong")
		}
		return user, nil
	}
	if s.opts.Insecure {
		return "", nil
	}
	if !loopback.Is(r.RemoteAddr) {
		return "", fail(http.StatusForbidden,
			"the control plane has no credentials, so it answers this to callers on its own machine only; set DELTAFORGE_CONTROL_TOKEN")
	}
	if !door.OwnHost(r.Host) {
		// A page whose name an attacker lets point to this machine must not drive the control plane.
		return "", fail(http.StatusForbidden, "the control plane has no credentials, so it answers this at an IP address or at localhost only, "+
			"not at %s; set DELTAFORGE_CONTROL_TOKEN", door.HostOnly(r.Host))
	}
	return "", nil
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
