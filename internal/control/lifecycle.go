package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// act runs one lifecycle action on a pipeline, alone, and audits it.
func (s *Server) act(r *http.Request, action string, do func(ctx context.Context, id string) error) *reply {
	s.pipelines.set.RLock()
	defer s.pipelines.set.RUnlock()
	id := r.PathValue("id")
	if err := s.actOn(r.Context(), action, id, do); err != nil {
		return replyTo(err)
	}
	p, ok := s.pipelines.get(id)
	if !ok {
		return jsonReply(http.StatusOK, map[string]string{"name": id})
	}
	return jsonReply(http.StatusOK, map[string]string{"name": id, "status": p.status})
}

// actOn is act without the HTTP of it. It goes on when the caller hangs up: half an action would be worse.
func (s *Server) actOn(ctx context.Context, action, id string, do func(ctx context.Context, id string) error) error {
	ctx = context.WithoutCancel(ctx)
	unlock := s.pipelines.lock(id)
	defer unlock()
	err := do(ctx, id)
	_, known := s.pipelines.get(id)
	status := http.StatusOK
	if err != nil {
		status = replyTo(err).status
	}
	s.audit(ctx, action, id, known, status, err)
	return err
}

func chilled(q url.Values) bool { return q.Get("chilled") == "true" }

func (s *Server) createStream(r *http.Request, body []byte) *reply {
	return s.act(r, "create", func(ctx context.Context, id string) error {
		return s.create(ctx, id, body, r.URL.Query())
	})
}

func (s *Server) create(ctx context.Context, id string, body []byte, query url.Values) error {
	if err := state.ValidID(id); err != nil {
		return refusef(http.StatusBadRequest, "%v", err)
	}
	if _, exists := s.pipelines.get(id); exists {
		return refusef(http.StatusBadRequest, "Stream already exists")
	}
	if err := noMask(body); err != nil {
		return err
	}
	p := pipeline{status: state.Running, config: body, chilled: chilled(query), saved: true}
	if err := s.checker.read(ctx, body, p.chilled); err != nil {
		return err
	}
	if err := s.run(ctx, id, p, query); err != nil {
		return err
	}
	err := s.state.SaveConfig(id, body)
	if err == nil {
		err = s.keep(id, p)
	}
	if err != nil { // nothing half-created
		return errors.Join(err, s.halt(ctx, id, query), s.state.DeleteConfig(id))
	}
	return nil
}

func (s *Server) updateStream(r *http.Request, body []byte) *reply {
	return s.act(r, "update", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil {
			return err
		}
		return s.update(ctx, id, p, body, r.URL.Query())
	})
}

func (s *Server) patchStream(r *http.Request, body []byte) *reply {
	return s.act(r, "patch", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil {
			return err
		}
		config, err := s.configOf(ctx, id, p)
		if err != nil {
			return err
		}
		merged, err := document.Merge(config, body)
		if err != nil {
			return refusef(http.StatusBadRequest, "%v", err)
		}
		return s.update(ctx, id, p, merged, r.URL.Query())
	})
}

// update gives a pipeline another configuration. It is checked before the old pipeline is stopped; if the engine
// still refuses it, the old one is started again.
func (s *Server) update(ctx context.Context, id string, p pipeline, body []byte, query url.Values) error {
	if err := noMask(body); err != nil {
		return err
	}
	if err := s.checker.check(ctx, body, chilled(query)); err != nil {
		return err
	}
	old, err := s.configOf(ctx, id, p)
	if err != nil {
		return err
	}
	next := p
	next.config, next.chilled, next.failure = body, chilled(query), ""
	if p.saved {
		if err := s.state.SaveConfig(id, body); err != nil {
			return err
		}
	}
	undo := func(err error) error {
		if p.saved {
			return errors.Join(err, s.state.SaveConfig(id, old))
		}
		return err
	}
	if p.status != state.Stopped {
		if err := s.swap(ctx, id, p, next, old, query); err != nil {
			return undo(err)
		}
	}
	return s.keep(id, next)
}

// swap replaces a running stream.
func (s *Server) swap(ctx context.Context, id string, p, next pipeline, old []byte, query url.Values) error {
	if err := s.halt(ctx, id, query); err != nil {
		return err
	}
	err := s.run(ctx, id, next, query)
	if err == nil {
		return nil
	}
	if p.failure != "" {
		return err // there was nothing to go back to
	}
	back := p
	back.config, back.chilled = old, true
	if backErr := s.run(ctx, id, back, nil); backErr != nil {
		back.failure = backErr.Error()
		s.pipelines.put(id, back)
		return refusef(http.StatusBadRequest, "%v; and the pipeline does not start with its old configuration: %v", err, backErr)
	}
	return err
}

// deletion is the answer to a DELETE.
type deletion struct {
	Deleted    string         `json:"deleted"`
	LeftBehind []leftoverInfo `json:"left_behind,omitempty"`
	Error      string         `json:"error,omitempty"` // why something was not dropped
}

// deleteStream deletes a pipeline, and with drop_slot=true what its sources have on their servers. What stays there is in the answer:
// a replication slot that nobody reads keeps the server's log for ever.
func (s *Server) deleteStream(r *http.Request, _ []byte) *reply {
	drop := r.URL.Query().Get("drop_slot") == "true"
	answer := deletion{Deleted: r.PathValue("id")}
	refused := s.act(r, "delete", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil {
			return err
		}
		config, _ := s.configOf(ctx, id, p) // none, where it never ran
		if err := s.remove(ctx, id, r.URL.Query()); err != nil {
			return err
		}
		answer.LeftBehind, err = s.leftovers(ctx, id, config, drop)
		if err != nil && drop {
			answer.Error = redact.Text(err.Error())
		}
		return nil
	})
	switch {
	case refused.status != http.StatusOK:
		return refused
	case answer.Error != "":
		return jsonReply(http.StatusBadGateway, answer)
	}
	return jsonReply(http.StatusOK, answer)
}

func (s *Server) remove(ctx context.Context, id string, query url.Values) error {
	p, err := s.find(ctx, id)
	if err != nil {
		return err
	}
	if err := s.halt(ctx, id, query); err != nil {
		return err
	}
	if p.saved {
		if err := s.state.DeleteConfig(id); err != nil {
			return err
		}
	}
	if err := s.state.Set(id, nil); err != nil {
		return err
	}
	s.forget(id)
	return nil
}

func (s *Server) pauseStream(r *http.Request, _ []byte) *reply {
	return s.act(r, "pause", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil || p.status == state.Paused {
			return err
		}
		if p.status == state.Stopped || p.failure != "" {
			return refusef(http.StatusConflict, "the pipeline does not run")
		}
		config, err := s.configOf(ctx, id, p)
		if err != nil {
			return err
		}
		if foreign := document.ForeignInput(config, s.opts.SourceTypes); foreign != "" {
			return refusef(http.StatusConflict, "its input %s cannot be paused, only %s can; stop the pipeline instead", foreign,
				strings.Join(s.opts.SourceTypes, " and "))
		}
		p.status = state.Paused
		s.sources.SetPaused(id, true)
		if err := s.keep(id, p); err != nil {
			s.sources.SetPaused(id, false)
			return err
		}
		return nil
	})
}

func (s *Server) resumeStream(r *http.Request, _ []byte) *reply {
	return s.act(r, "resume", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		switch {
		case err != nil:
			return err
		case p.status == state.Stopped:
			return refusef(http.StatusConflict, "the pipeline is stopped, not paused: start it")
		case p.status == state.Running:
			return nil
		}
		p.status = state.Running
		if err := s.keep(id, p); err != nil {
			return err
		}
		s.sources.SetPaused(id, false)
		return nil
	})
}

func (s *Server) stopStream(r *http.Request, _ []byte) *reply {
	return s.act(r, "stop", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil || p.status == state.Stopped {
			return err
		}
		if p.config, err = s.configOf(ctx, id, p); err != nil {
			return err
		}
		was := p
		p.status, p.failure = state.Stopped, ""
		if !p.saved {
			p.chilled = true // the engine has accepted it
		}
		if err := s.keep(id, p); err != nil { // first, so that a crash from here on leaves it stopped
			return err
		}
		if err := s.halt(ctx, id, r.URL.Query()); err != nil {
			return errors.Join(err, s.keep(id, was))
		}
		return nil
	})
}

func (s *Server) startStream(r *http.Request, _ []byte) *reply {
	return s.act(r, "start", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil {
			return err
		}
		if p.status == state.Paused && p.failure == "" {
			return refusef(http.StatusConflict, "the pipeline is paused, not stopped: resume it")
		}
		info, found, err := s.engine.Get(ctx, id)
		if err != nil || (found && info.Active) {
			return err
		}
		if found { // its input has ended
			if p.config == nil {
				p.config, p.chilled = info.Config, true
			}
			if err := s.halt(ctx, id, r.URL.Query()); err != nil {
				return err
			}
		}
		p.status, p.failure = state.Running, ""
		if err := s.run(ctx, id, p, r.URL.Query()); err != nil {
			p.failure = err.Error()
			s.pipelines.put(id, p)
			return err
		}
		if err := s.keep(id, p); err != nil {
			return errors.Join(err, s.halt(ctx, id, nil))
		}
		return nil
	})
}

// replaceStreams makes the set of pipelines equal to the body's. Every configuration is checked before anything is done.
func (s *Server) replaceStreams(r *http.Request, body []byte) *reply {
	s.pipelines.set.Lock()
	defer s.pipelines.set.Unlock()
	query := r.URL.Query()
	wanted, err := document.Split(body)
	if err != nil {
		return fail(http.StatusBadRequest, "%v", err)
	}
	var lints []string
	for id, config := range wanted {
		err := state.ValidID(id)
		if err == nil {
			err = noMask(config)
		}
		if err == nil {
			err = s.checker.check(r.Context(), config, chilled(query))
		}
		if err != nil {
			lints = append(lints, "stream '"+id+"': "+redact.Text(err.Error()))
		}
	}
	if len(lints) > 0 {
		slices.Sort(lints)
		return jsonReply(http.StatusBadRequest, map[string]any{"lint_errors": lints})
	}
	running, err := s.engine.List(r.Context())
	if err != nil {
		return replyTo(err)
	}
	present := map[string]bool{}
	for id := range running {
		present[id] = true
	}
	for id := range s.pipelines.snapshot() {
		present[id] = true
	}
	return s.replaceAll(r.Context(), wanted, present, query)
}

func (s *Server) replaceAll(ctx context.Context, wanted map[string][]byte, present map[string]bool, query url.Values) *reply {
	var (
		mu   sync.Mutex
		errs []string
		wg   sync.WaitGroup
		slot = make(chan struct{}, 8)
	)
	start := func(action, id string, do func(ctx context.Context, id string) error) {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			var err error
			if panicked := s.guard(changeComponent, func() { err = s.actOn(ctx, action, id, do) }); panicked != nil {
				err = panicked
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, action+" "+id+": "+err.Error())
			}
		})
	}
	for id := range present {
		if _, stays := wanted[id]; !stays {
			start("delete", id, func(ctx context.Context, id string) error { return s.remove(ctx, id, query) })
		}
	}
	for id, config := range wanted {
		if !present[id] {
			start("create", id, func(ctx context.Context, id string) error { return s.create(ctx, id, config, query) })
			continue
		}
		start("update", id, func(ctx context.Context, id string) error {
			p, err := s.find(ctx, id)
			if err != nil {
				return err
			}
			return s.update(ctx, id, p, config, query)
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		slices.Sort(errs)
		return fail(http.StatusBadRequest, "%s", strings.Join(errs, "; "))
	}
	return jsonReply(http.StatusOK, struct{}{})
}

// noMask refuses a configuration that was read from here and came back with its secrets masked.
func noMask(config []byte) error {
	if strings.Contains(string(config), document.Mask) {
		return refusef(http.StatusBadRequest,
			"the configuration holds %s where a secret was masked: give the secret, or patch only what changes", document.Mask)
	}
	return nil
}
