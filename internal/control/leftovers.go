package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/internal/trial"
	contract "github.com/deltaforge/deltaforge/internal/plane"
)

// leftoverInfo is what a deleted pipeline has left on a server.
type leftoverInfo struct {
	Source   string `json:"source"`
	What     string `json:"what"`
	Dropped  bool   `json:"dropped"`
	DropWith string `json:"drop_with,omitempty"` // the statement that drops it
}

// dropTimeout bounds the dropping of what the sources of one pipeline have left.
const dropTimeout = 20 * time.Second

// leftovers returns what the sources of a configuration leave on their servers, and drops it when it is asked to. The pipeline does
// not run any more. Without drop it connects to nothing.
func (s *Server) leftovers(ctx context.Context, id string, config []byte, drop bool) (found []leftoverInfo, err error) {
	sources := document.FindSources(config, s.opts.SourceTypes)
	if len(sources) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	var mu sync.Mutex
	ctx = contract.WithCleanup(ctx, &contract.Cleanup{Drop: drop, Add: func(source string, l contract.Leftover) {
		mu.Lock()
		defer mu.Unlock()
		one := leftoverInfo{Source: source, What: l.What, Dropped: l.Dropped}
		log := s.log.With("pipeline", id, "source", source)
		if l.Dropped {
			log.Infof("Dropped %s", l.What)
		} else {
			one.DropWith = l.How
			log.Warnf("The deleted pipeline leaves %s; drop it with: %s", l.What, l.How)
		}
		found = append(found, one)
	}})
	var results []trial.Result
	for _, src := range sources { // each alone: a broker around them would start before it is asked for anything
		input, encodeErr := yaml.Marshal(map[string]any{"input": map[string]any{src.Kind: src.Fields}})
		err = errors.Join(err, encodeErr, s.checker.Build(ctx, input, &results))
	}
	for _, r := range results {
		if r.Status == "failed" {
			err = errors.Join(err, errors.New(r.Error))
		}
	}
	return found, err
}
