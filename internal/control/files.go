package control

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// testSuffix ends the names of files that hold the tests of a stream.
const testSuffix = "_benthos_test"

// fileSet is the set of configuration files of streams.
type fileSet struct {
	patterns []string // files, folders and globs, as the command line has them
}

// expand returns the files by the id of their stream: the name of the file, and before it the folders below the one that was
// given, joined by underscores.
func (f fileSet) expand() (paths map[string]string, err error) {
	paths = map[string]string{}
	add := func(id, path string) error {
		id = strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(id, ".yaml"), ".yml"), string(filepath.Separator), "_")
		if strings.HasSuffix(id, testSuffix) {
			return nil
		}
		if other, twice := paths[id]; twice && other != path {
			return fmt.Errorf("%s and %s are both the stream %q: rename one of them", other, path, id)
		}
		paths[id] = path
		return nil
	}
	for _, pattern := range f.patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pattern, err)
		}
		if len(found) == 0 {
			if strings.ContainsAny(pattern, "*?[") {
				continue // nothing matches yet
			}
			found = []string{pattern} // for the error
		}
		for _, root := range found {
			info, err := os.Stat(root)
			if err != nil {
				return nil, fmt.Errorf("stream configuration: %w", err)
			}
			if !info.IsDir() {
				if err := add(filepath.Base(root), root); err != nil {
					return nil, err
				}
				continue
			}
			err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() || !yamlFile(d.Name()) {
					return err
				}
				id, err := filepath.Rel(root, path)
				if err != nil {
					return err
				}
				return add(id, path)
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return paths, nil
}

func yamlFile(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

// streamConfig returns what of a file is the configuration of a stream: the tests in it are not.
func streamConfig(text []byte) []byte {
	if !bytes.Contains(text, []byte("tests")) {
		return text
	}
	root, err := mapping(text)
	if err != nil {
		return text // whoever checks it says so
	}
	at := slices.IndexFunc(root.Content, func(n *yaml.Node) bool { return n.Value == "tests" })
	if at < 0 || at%2 == 1 {
		return text
	}
	root.Content = slices.Delete(root.Content, at, at+2)
	rest, err := yaml.Marshal(root)
	if err != nil {
		return text
	}
	return rest
}

// lintDisabled is the first line of a file that wants no lint, as the engine has it.
const lintDisabled = "# BENTHOS LINT DISABLE"

// loadFiles makes a pipeline of each configuration file. One that does not start is there as failed, with its reason, and the
// others run. It is an error when the files cannot be found.
func (s *Server) loadFiles(ctx context.Context) error {
	paths, err := s.files.expand()
	if err != nil {
		return err
	}
	saved := s.state.saved()
	for id, path := range paths {
		if _, twice := s.pipelines.get(id); twice {
			return fmt.Errorf("pipeline %q is in the state directory and in a configuration file: delete %s, or the file",
				id, s.state.path(id))
		}
		p := pipeline{status: cmp.Or(saved[id].Status, statusRunning), chilled: saved[id].Chilled || s.opts.Chilled, file: path}
		text, err := os.ReadFile(path)
		if err == nil {
			p.config = streamConfig(text)
			p.chilled = p.chilled || bytes.HasPrefix(text, []byte(lintDisabled))
			if p.status != statusStopped {
				err = s.tryRun(ctx, id, p)
			}
		}
		if err != nil {
			p.failure = fmt.Sprintf("%s: %v", path, err)
			s.log.With("pipeline", id, "path", path, "error", redactText(err.Error())).Error("Pipeline of a configuration file does not start")
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
	seen := map[string]string{}
	if paths, err := s.files.expand(); err == nil {
		for id, path := range paths {
			seen[id] = Fingerprint(path)
		}
	}
	resources := newResourceFiles(s.opts.ResourceFiles)
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_ = s.guard(watchComponent, func() {
			s.applyFiles(ctx, seen)
			s.applyResources(ctx, resources)
		})
	}
}

// Fingerprint changes when a file does.
func Fingerprint(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "gone"
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
}

// applyFiles compares the files with what was seen of them, and applies the differences.
func (s *Server) applyFiles(ctx context.Context, seen map[string]string) {
	s.pipelines.set.RLock()
	defer s.pipelines.set.RUnlock()
	paths, err := s.files.expand()
	if err != nil {
		if seen[""] != err.Error() {
			s.log.With("error", redactText(err.Error())).Error("Reading the configuration files")
		}
		seen[""] = err.Error()
		return
	}
	delete(seen, "")
	for id, path := range paths {
		now := Fingerprint(path)
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
	config := streamConfig(text)
	p, there := s.pipelines.get(id)
	switch {
	case !there:
		_ = s.actOn(ctx, "create", id, func(ctx context.Context, id string) error { // audited
			p := pipeline{status: statusRunning, config: config, chilled: chilled(query), file: path}
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

// resourceFiles are the files that hold shared resources, and what was seen of each resource.
type resourceFiles struct {
	patterns []string
	seen     map[string]string // by path: fingerprint
	text     map[string]string // by type and label: configuration
}

func newResourceFiles(patterns []string) *resourceFiles {
	r := &resourceFiles{patterns: patterns, seen: map[string]string{}, text: map[string]string{}}
	for _, path := range r.paths() {
		r.seen[path] = Fingerprint(path)
		for key, text := range resourcesIn(path) {
			r.text[key] = string(text)
		}
	}
	return r
}

func (r *resourceFiles) paths() (all []string) {
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
func (s *Server) applyResources(ctx context.Context, r *resourceFiles) {
	for _, path := range r.paths() {
		now := Fingerprint(path)
		if r.seen[path] == now {
			continue
		}
		r.seen[path] = now
		for key, text := range resourcesIn(path) {
			if r.text[key] == string(text) {
				continue
			}
			log := s.log.With("resource", key, "path", path)
			a, err := s.engine.do(ctx, http.MethodPost, "/resources/"+key, chilledQuery(nil, s.opts.Chilled), text)
			if err == nil {
				err = badConfig(a)
			}
			if err != nil {
				log.With("error", redactText(err.Error())).Error("A changed resource is refused; the old one stays")
				continue
			}
			r.text[key] = string(text)
			log.Info("Resource replaced")
		}
	}
}
