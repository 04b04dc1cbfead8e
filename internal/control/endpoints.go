package control

import (
	"net/http"
	"net/http/httputil"
	"net/url"
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
	target, err := url.Parse(s.engine.base)
	if err != nil {
		return http.NotFoundHandler()
	}
	proxy := &httputil.ReverseProxy{
		Transport: s.engine.client.Transport, ErrorLog: serverLog(s.log),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Header.Del("Cookie")
			r.Out.SetBasicAuth(s.engine.lock.user, s.engine.lock.password)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			fail(http.StatusBadGateway, "%v", err).write(w)
		},
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
