package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
)

// CheckpointLocation says where a source keeps its position.
type CheckpointLocation struct {
	Cache string // the label of a cache resource; empty: the file at Path
	Path  string // empty: the default of the source
	Key   string
}

// ErrNoCheckpoint is what Checkpoints returns when nothing is saved.
var ErrNoCheckpoint = errors.New("no position saved")

// Checkpoints reads and deletes saved positions. Its methods are called from any goroutine.
type Checkpoints interface {
	// Read returns the saved record, which is JSON.
	Read(ctx context.Context, at CheckpointLocation) (json.RawMessage, error)
	// Delete forgets it. It must fail while a source uses it.
	Delete(ctx context.Context, at CheckpointLocation) error
}

// savedPosition is the position of one source in an answer.
type savedPosition struct {
	Source string          `json:"source"`
	Key    string          `json:"key"`
	Store  string          `json:"store"`
	Record json.RawMessage `json:"record"` // null: nothing is saved
}

// locations finds where the sources of a pipeline keep their positions.
func (s *Server) locations(ctx context.Context, id string, p pipeline) ([]CheckpointLocation, []savedPosition, error) {
	if s.opts.Checkpoints == nil {
		return nil, nil, refusef(http.StatusNotImplemented, "this build cannot read saved positions")
	}
	config, err := s.configOf(ctx, id, p)
	if err != nil {
		return nil, nil, err
	}
	sources := document.FindSources(config, s.opts.SourceTypes)
	if len(sources) == 0 {
		return nil, nil, refusef(http.StatusNotFound, "the pipeline has no source that keeps a position here")
	}
	var at []CheckpointLocation
	var shown []savedPosition
	for _, src := range sources {
		name := src.Text("name")
		l := CheckpointLocation{
			Cache: src.Text("checkpoint", "cache"), Path: src.Text("checkpoint", "path"),
			Key: cmp.Or(src.Text("checkpoint", "key"), name),
		}
		at = append(at, l)
		shown = append(shown, savedPosition{Source: name, Key: l.Key, Store: cmp.Or(l.Cache, l.Path, "default")})
	}
	return at, shown, nil
}

type checkpointAnswer struct {
	Pipeline    string          `json:"pipeline"`
	Checkpoints []savedPosition `json:"checkpoints"`
}

func (s *Server) getCheckpoint(r *http.Request, _ []byte) *reply {
	id := r.PathValue("id")
	unlock := s.pipelines.lock(id)
	defer unlock()
	p, err := s.find(r.Context(), id)
	if err != nil {
		return replyTo(err)
	}
	at, shown, err := s.locations(r.Context(), id, p)
	if err != nil {
		return replyTo(err)
	}
	for i, l := range at {
		record, err := s.opts.Checkpoints.Read(r.Context(), l)
		if err != nil && !errors.Is(err, ErrNoCheckpoint) {
			return replyTo(err)
		}
		shown[i].Record = record
	}
	return jsonReply(http.StatusOK, checkpointAnswer{id, shown})
}

func (s *Server) deleteCheckpoint(r *http.Request, _ []byte) *reply {
	return s.act(r, "delete_checkpoint", func(ctx context.Context, id string) error {
		p, err := s.find(ctx, id)
		if err != nil {
			return err
		}
		if p.status != state.Stopped {
			return refusef(http.StatusConflict, "the pipeline is %s: stop it first", p.status)
		}
		at, _, err := s.locations(ctx, id, p)
		if err != nil {
			return err
		}
		deleted := 0
		for _, l := range at {
			switch err := s.opts.Checkpoints.Delete(ctx, l); {
			case err == nil:
				deleted++
			case !errors.Is(err, ErrNoCheckpoint):
				return err
			}
		}
		if deleted == 0 {
			return refusef(http.StatusNotFound, "no position saved")
		}
		return nil
	})
}
