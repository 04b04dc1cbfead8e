package control

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/engine"
)

// listStreams is the engine's list with the statuses, and with the pipelines that the engine does not run.
func (s *Server) listStreams(r *http.Request, _ []byte) *reply {
	states, err := s.states(r.Context())
	if err != nil {
		return replyTo(err)
	}
	all := make(map[string]engine.Info, len(states))
	for _, st := range states {
		info := st.info
		info.Status, info.Config = st.Status, nil
		if info.UptimeStr == "" {
			info.UptimeStr = "0s"
		}
		all[st.Name] = info
	}
	return jsonReply(http.StatusOK, all)
}

func (s *Server) getStream(r *http.Request, _ []byte) *reply {
	id := r.PathValue("id")
	unlock := s.pipelines.lock(id) // not in the middle of an update
	defer unlock()
	p, err := s.find(r.Context(), id)
	if err != nil {
		return replyTo(err)
	}
	info, found, err := s.engine.Get(r.Context(), id)
	if err != nil {
		return replyTo(err)
	}
	if !found {
		if info.Config, err = document.JSON(p.config); err != nil {
			return replyTo(err)
		}
		info.UptimeStr = "0s"
	}
	if info.Config, err = document.Redact(info.Config); err != nil {
		return replyTo(err)
	}
	info.Status, _ = s.statusOf(id, p, info, found, s.sources.Reports(id))
	return jsonReply(http.StatusOK, info)
}

func (s *Server) streamStats(r *http.Request, _ []byte) *reply {
	id := r.PathValue("id")
	a, err := s.engine.Request(r.Context(), http.MethodGet, engine.StreamPath(id)+"/stats", nil, nil)
	if err != nil {
		return replyTo(err)
	}
	if _, known := s.pipelines.get(id); known && a.Status == http.StatusNotFound {
		return jsonReply(http.StatusOK, json.RawMessage(`{"uptime_ns":0}`)) // stopped
	}
	return passed(a)
}

func (s *Server) storeResource(r *http.Request, body []byte) *reply {
	path := "/resources/" + url.PathEscape(r.PathValue("type")) + "/" + url.PathEscape(r.PathValue("id"))
	a, err := s.engine.Request(r.Context(), http.MethodPost, path, chilledQuery(nil, chilled(r.URL.Query())), body)
	if err != nil {
		return replyTo(err)
	}
	if err := badConfig(a); err != nil {
		return replyTo(err)
	}
	return passed(a)
}

func (s *Server) passThrough(r *http.Request, _ []byte) *reply {
	a, err := s.engine.Request(r.Context(), http.MethodGet, r.URL.Path, nil, nil)
	if err != nil {
		return replyTo(err)
	}
	return &reply{status: a.Status, contentType: a.ContentType, body: a.Body}
}
