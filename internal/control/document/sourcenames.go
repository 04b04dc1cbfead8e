package document

import (
	"sync"
)

// SourceNames knows what the sources of the pipelines are called. The log of the engine tells an input by its place in the
// configuration; a person knows it by its name.
type SourceNames struct {
	types []string

	mu    sync.RWMutex
	names map[[2]string]string // by pipeline and path; guarded by mu
}

// NewSourceNames returns the names of inputs of the given types, of which there are none yet.
func NewSourceNames(types []string) *SourceNames {
	return &SourceNames{types: types, names: map[[2]string]string{}}
}

// Put learns the names of the sources of a configuration. The pipeline of run mode has no name for the engine: "".
func (n *SourceNames) Put(pipeline string, config []byte) {
	if n == nil {
		return
	}
	found := FindSources(config, n.types)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, src := range found {
		if name := src.Text("name"); name != "" {
			n.names[[2]string{pipeline, src.path}] = name
		}
	}
}

// Of returns the name of the source at a path of a pipeline; empty: it has none.
func (n *SourceNames) Of(pipeline, path string) string {
	if n == nil {
		return ""
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.names[[2]string{pipeline, path}]
}
