package control

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/internal/state"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// lintDisabled is the first line of a file that wants no lint, as the engine has it.
const lintDisabled = "# BENTHOS LINT DISABLE"

// loadFiles makes a pipeline of each configuration file. One that does not start is there as failed, with its reason, and the
// others run. It is an error when the files cannot be found.
func (s *Server) loadFiles(ctx context.Context) error {
	paths, err := s.files.Expand()
	if err != nil {
		return err
	}
	saved := s.state.Saved()
	for id, path := range paths {
		if _, twice := s.pipelines.get(id); twice {
			return fmt.Errorf("pipeline %q is in the state directory and in a configuration file: delete %s, or the file",
				id, s.state.Path(id))
		}
		p := pipeline{status: cmp.Or(saved[id].Status, state.Running), chilled: saved[id].Chilled || s.opts.Chilled, file: path}
		s.seen[id] = document.Fingerprint(path) // first, so that no later edit is taken for what is read here
		text, err := os.ReadFile(path)
		if err == nil {
			p.config = document.StreamConfig(text)
			p.chilled = p.chilled || bytes.HasPrefix(text, []byte(lintDisabled))
			if p.status == state.Stopped {
				document.Learn(p.config) // nobody checks it now
			} else {
				err = s.tryRun(ctx, id, p)
			}
		}
		if err != nil {
			p.failure = fmt.Sprintf("%s: %v", path, err)
			s.log.With("pipeline", id, "path", path, "error", redact.Text(err.Error())).Error("Pipeline of a configuration file does not start")
		}
		s.pipelines.put(id, p)
	}
	return nil
}

// tryRun checks a configuration and runs it.
func (s *Server) tryRun(ctx context.Context, id string, p pipeline) error {
	if err := s.checker.check(ctx, p.config, p.chilled); err != nil {
		return err
	}
	return s.run(ctx, id, p, nil)
}

// watchPeriod is how often configuration files are looked at.
const watchPeriod = time.Second

// watchFiles applies what changes in configuration files, until ctx ends. An edit goes the way of a PUT: what does not build
// changes nothing, and a stopped pipeline stays stopped.
func (s *Server) watchFiles(ctx context.Context) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_ = s.guard(watchComponent, func() {
			s.applyFiles(ctx, s.seen)
			if s.opts.ResourceFiles != nil {
				s.applyResources(ctx, s.opts.ResourceFiles)
			}
		})
	}
}

// applyFiles compares the files with what was seen of them, and applies the differences.
func (s *Server) applyFiles(ctx context.Context, seen map[string]string) {
	s.pipelines.set.RLock()
	defer s.pipelines.set.RUnlock()
	paths, err := s.files.Expand()
	if err != nil {
		if seen[""] != err.Error() {
			s.log.With("error", redact.Text(err.Error())).Error("Reading the configuration files")
		}
		seen[""] = err.Error()
		return
	}
	delete(seen, "")
	for id, path := range paths {
		now := document.Fingerprint(path)
		if seen[id] == now {
			continue
		}
		seen[id] = now
		s.applyFile(ctx, id, path)
	}
	for id := range seen {
		if _, there := paths[id]; !there {
			delete(seen, id)
			if p, ok := s.pipelines.get(id); ok && p.file != "" {
				_ = s.actOn(ctx, "delete", id, func(ctx context.Context, id string) error { return s.remove(ctx, id, nil) }) // audited
			}
		}
	}
}

// applyFile gives a pipeline the configuration that is in its file now.
func (s *Server) applyFile(ctx context.Context, id, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		s.log.With("pipeline", id, "path", path, "error", err.Error()).Warn("Reading a configuration file; the pipeline goes on with the old one")
		return
	}
	query := url.Values{}
	if s.opts.Chilled || bytes.HasPrefix(text, []byte(lintDisabled)) {
		query.Set("chilled", "true")
	}
	config := document.StreamConfig(text)
	p, there := s.pipelines.get(id)
	switch {
	case !there:
		_ = s.actOn(ctx, "create", id, func(ctx context.Context, id string) error { // audited
			p := pipeline{status: state.Running, config: config, chilled: chilled(query), file: path}
			err := s.tryRun(ctx, id, p)
			if err != nil {
				p.failure = fmt.Sprintf("%s: %v", path, err)
			}
			s.pipelines.put(id, p)
			return err
		})
	case p.saved:
		s.log.With("pipeline", id, "path", path).Error("A configuration file has the name of a pipeline that was made over HTTP: rename the file")
	case !bytes.Equal(p.config, config) || p.failure != "":
		_ = s.actOn(ctx, "update", id, func(ctx context.Context, id string) error { // audited
			p, err := s.find(ctx, id)
			if err != nil {
				return err
			}
			return s.update(ctx, id, p, config, query)
		})
	}
}

// ResourceFiles are the files that hold shared resources, and what was seen of each resource.
type ResourceFiles struct {
	patterns []string
	seen     map[string]string // by path: fingerprint
	text     map[string]string // by type and label: configuration
}

// NewResourceFiles looks at the files that match patterns. It is called before the engine reads them, so that no later edit is taken for what
// the engine has read.
func NewResourceFiles(patterns []string) *ResourceFiles {
	r := &ResourceFiles{patterns: patterns, seen: map[string]string{}, text: map[string]string{}}
	for _, path := range r.paths() {
		r.seen[path] = document.Fingerprint(path)
		for key, text := range resourcesIn(path) {
			r.text[key] = string(text)
		}
	}
	return r
}

func (r *ResourceFiles) paths() (all []string) {
	for _, pattern := range r.patterns {
		found, err := filepath.Glob(pattern)
		if err == nil {
			all = append(all, found...)
		}
	}
	return all
}

// resourcesIn returns the resources of a file, by type and label.
func resourcesIn(path string) map[string][]byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var sections map[string]yaml.Node
	if yaml.Unmarshal(text, &sections) != nil {
		return nil
	}
	all := map[string][]byte{}
	for section, list := range sections {
		kind, ok := strings.CutSuffix(section, "_resources")
		if !ok {
			continue
		}
		for _, one := range list.Content {
			for i := 0; i+1 < len(one.Content); i += 2 {
				if one.Content[i].Value != "label" {
					continue
				}
				label := one.Content[i+1].Value
				rest := *one
				rest.Content = slices.Delete(slices.Clone(one.Content), i, i+2)
				if body, err := yaml.Marshal(&rest); err == nil {
					all[kind+"/"+url.PathEscape(label)] = body
				}
				break
			}
		}
	}
	return all
}

// applyResources replaces the resources that have changed in their files.
func (s *Server) applyResources(ctx context.Context, r *ResourceFiles) {
	for _, path := range r.paths() {
		now := document.Fingerprint(path)
		if r.seen[path] == now {
			continue
		}
		r.seen[path] = now
		for key, text := range resourcesIn(path) {
			if r.text[key] == string(text) {
				continue
			}
			log := s.log.With("resource", key, "path", path)
			a, err := s.engine.Request(ctx, http.MethodPost, "/resources/"+key, chilledQuery(nil, s.opts.Chilled), text)
			if err == nil {
				err = badConfig(a)
			}
			if err != nil {
				log.With("error", redact.Text(err.Error())).Error("A changed resource is refused; the old one stays")
				continue
			}
			r.text[key] = string(text)
			log.Info("Resource replaced")
		}
	}
}
