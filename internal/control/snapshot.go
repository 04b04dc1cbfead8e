package control

import (
	"context"
	"net/http"

	"gopkg.in/yaml.v3"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

// snapshotAnswer is how the snapshots of a pipeline are, by its sources.
type snapshotAnswer struct {
	Pipeline string                             `json:"pipeline"`
	Sources  map[string]contract.SnapshotStatus `json:"sources"`
}

func (s *Server) getSnapshot(r *http.Request, _ []byte) *reply {
	id := r.PathValue("id")
	unlock := s.pipelines.lock(id)
	defer unlock()
	answer, err := s.snapshot(r.Context(), id, r.URL.Query().Get("source"), contract.SnapshotRequest{})
	if err != nil {
		return replyTo(err)
	}
	return jsonReply(http.StatusOK, answer)
}

func (s *Server) postSnapshot(r *http.Request, body []byte) *reply {
	var answer snapshotAnswer
	var asked struct {
		Action string   `yaml:"action"`
		Tables []string `yaml:"tables"`
		Where  string   `yaml:"where"`
		Source string   `yaml:"source"`
	}
	err := yaml.Unmarshal(body, &asked)
	failed := s.act(r, "snapshot_"+asked.Action, func(ctx context.Context, id string) error {
		switch {
		case err != nil:
			return refusef(http.StatusBadRequest, "the body: %v", err)
		case asked.Action == "":
			return refusef(http.StatusBadRequest, "action: want start, pause, resume or stop")
		}
		var err error
		answer, err = s.snapshot(ctx, id, asked.Source, contract.SnapshotRequest{Action: asked.Action, Tables: asked.Tables, Where: asked.Where})
		return err
	})
	if failed.status != http.StatusOK {
		return failed
	}
	return jsonReply(http.StatusOK, answer)
}

// snapshot passes a request on to the sources of a pipeline that runs.
func (s *Server) snapshot(ctx context.Context, id, source string, r contract.SnapshotRequest) (snapshotAnswer, error) {
	if _, err := s.find(ctx, id); err != nil {
		return snapshotAnswer{}, err
	}
	all, err := s.sources.Snapshot(id, source, r)
	switch {
	case err != nil:
		return snapshotAnswer{}, refusef(http.StatusBadRequest, "%v", err)
	case len(all) == 0:
		return snapshotAnswer{}, refusef(http.StatusConflict, "no source of the pipeline that loads tables is running: start the pipeline, or wait until it has connected")
	}
	return snapshotAnswer{id, all}, nil
}
