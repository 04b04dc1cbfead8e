package control

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/deadletter"
)

const (
	// replayTimeout is how long a request lets a replay run.
	replayTimeout = 25 * time.Second
	// defaultLetters is how many entries are listed where nobody says.
	defaultLetters = 100
)

// lettersAnswer is a list of dead letters.
type lettersAnswer struct {
	Pipeline string             `json:"pipeline"`
	Path     string             `json:"path"`
	Entries  []deadletter.Entry `json:"entries"`
}

// withLetters calls f with the dead letters of a pipeline that runs, and its configuration.
func (s *Server) withLetters(r *http.Request, f func(ctx context.Context, st *deadletter.Store, path string, p pipeline) *reply) *reply {
	id := r.PathValue("id")
	p, err := func() (pipeline, error) {
		unlock := s.pipelines.lock(id)
		defer unlock()
		return s.find(r.Context(), id)
	}()
	if err != nil {
		return replyTo(err)
	}
	paths, asked := deadletter.Paths(id), r.URL.Query().Get("path")
	slices.Sort(paths)
	paths = slices.Compact(paths)
	switch {
	case len(paths) == 0:
		return fail(http.StatusConflict, "no output of the pipeline has dead letters open: it has no dead_letter field, or does not run; `deltaforge dlq` works on the file")
	case asked != "" && !slices.Contains(paths, asked):
		return fail(http.StatusBadRequest, "path: the pipeline has %s", strings.Join(paths, ", "))
	case asked == "" && len(paths) > 1:
		return fail(http.StatusBadRequest, "path: say which of %s", strings.Join(paths, ", "))
	case asked == "":
		asked = paths[0]
	}
	st, err := deadletter.Open(r.Context(), asked, false)
	if err != nil {
		return fail(http.StatusInternalServerError, "%v", err)
	}
	defer func() { _ = st.Close() }() // the output has it open, too
	return f(r.Context(), st, asked, p)
}

// lettersOf reads which entries a request is about.
func lettersOf(id string, q url.Values) (f deadletter.Filter, err error) {
	f = deadletter.Filter{Pipeline: &id, Table: q.Get("table"), Kind: q.Get("kind"), Limit: defaultLetters}
	if text := q.Get("after"); text != "" {
		if f.After, err = strconv.ParseInt(text, 10, 64); err != nil {
			return f, refusef(http.StatusBadRequest, "after: %q is not the id of an entry", text)
		}
	}
	if text := q.Get("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > 10_000 {
			return f, refusef(http.StatusBadRequest, "limit: %q is not between 1 and 10000", text)
		}
	}
	for _, text := range q["entry"] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return f, refusef(http.StatusBadRequest, "entry: %q is not the id of an entry", text)
		}
		f.IDs = append(f.IDs, n)
	}
	return f, nil
}

func (s *Server) listLetters(r *http.Request, _ []byte) *reply {
	return s.withLetters(r, func(ctx context.Context, st *deadletter.Store, path string, _ pipeline) *reply {
		f, err := lettersOf(r.PathValue("id"), r.URL.Query())
		if err != nil {
			return replyTo(err)
		}
		entries, err := st.List(ctx, f, len(f.IDs) > 0)
		if err != nil {
			return fail(http.StatusInternalServerError, "%v", err)
		}
		return jsonReply(http.StatusOK, lettersAnswer{r.PathValue("id"), path, append([]deadletter.Entry{}, entries...)})
	})
}

func (s *Server) purgeLetters(r *http.Request, _ []byte) *reply {
	return s.withLetters(r, func(ctx context.Context, st *deadletter.Store, _ string, _ pipeline) *reply {
		id, q := r.PathValue("id"), r.URL.Query()
		f, err := lettersOf(id, q)
		f.Limit = 0
		if err == nil && len(f.IDs) == 0 && q.Get("all") != "true" {
			err = refusef(http.StatusBadRequest, "say which, by entry=ID, or all=true; what is purged is gone for good")
		}
		n := 0
		if err == nil {
			n, err = st.Purge(ctx, f)
		}
		return s.letterReply(ctx, "dlq_purge", id, map[string]int{"removed": n}, err)
	})
}

func (s *Server) replayLetters(r *http.Request, body []byte) *reply {
	return s.withLetters(r, func(ctx context.Context, st *deadletter.Store, _ string, p pipeline) *reply {
		var asked struct {
			Entries    []int64 `yaml:"entries"`
			Table      string  `yaml:"table"`
			Kind       string  `yaml:"kind"`
			Processors bool    `yaml:"processors"`
		}
		id := r.PathValue("id")
		if err := yaml.Unmarshal(body, &asked); err != nil {
			return s.letterReply(ctx, "dlq_replay", id, nil, refusef(http.StatusBadRequest, "the body: %v", err))
		}
		again := deadletter.Replay{Config: p.config, Processors: asked.Processors, Resources: s.opts.ResourceFiles.texts()}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replayTimeout)
		defer cancel()
		out, err := again.Run(ctx, st, deadletter.Filter{Pipeline: &id, IDs: asked.Entries, Table: asked.Table, Kind: asked.Kind})
		unfinished := errors.Is(err, context.DeadlineExceeded)
		if unfinished {
			err = nil
		}
		return s.letterReply(ctx, "dlq_replay", id, struct {
			deadletter.Result
			// Unfinished says that there was more to do than a request may take.
			Unfinished bool `json:"unfinished,omitempty"`
		}{out, unfinished}, err)
	})
}

// letterReply audits an action on dead letters and answers it.
func (s *Server) letterReply(ctx context.Context, action, id string, answer any, err error) *reply {
	out := jsonReply(http.StatusOK, answer)
	if err != nil {
		if out = fail(http.StatusInternalServerError, "%v", err); isRefusal(err) {
			out = replyTo(err)
		}
	}
	s.audit(context.WithoutCancel(ctx), action, id, true, out.status, err)
	return out
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*refusal](err)
	return ok
}

// texts returns the configurations of shared resources.
func (r *ResourceFiles) texts() (all [][]byte) {
	if r == nil {
		return nil
	}
	for _, path := range r.paths() {
		if text, err := os.ReadFile(path); err == nil {
			all = append(all, text)
		}
	}
	return all
}
