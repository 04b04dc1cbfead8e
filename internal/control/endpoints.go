package control

import (
	"net/http"
	"path"
	"strings"
)

// hasEndpoints reports whether a path is one below the name of a pipeline, where its components have their endpoints:
// an http_server input without an address of its own is at /<pipeline>/post.
func (s *Server) hasEndpoints(at string) bool {
	id, rest, found := strings.Cut(strings.TrimPrefix(at, "/"), "/")
	if !found || rest == "" || path.Clean(at) != at {
		return false
	}
	switch id {
	case "streams", "resources", "debug": // the engine's own
		return false
	}
	_, known := s.pipelines.get(id)
	return known
}

// endpoints hands requests for the endpoints of pipelines on to the engine's server, which answers nobody but the control
// plane. A caller needs the same credentials as for everything else.
func (s *Server) endpoints() http.Handler {
	if s.engine == nil {
		return http.NotFoundHandler()
	}
	proxy, err := s.engine.Proxy(serverLog(s.log), func(w http.ResponseWriter, err error) { fail(http.StatusBadGateway, "%v", err).write(w) })
	if err != nil {
		return http.NotFoundHandler()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, refused := s.refuse(w, r, false)
		if refused != nil {
			refused.write(w)
			return
		}
		if c, ok := r.Context().Value(callerKey{}).(*caller); ok {
			c.user = user
		}
		proxy.ServeHTTP(w, r)
	})
}
