// Package state keeps pipelines and their statuses in a directory.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// The state directory:
//
//	streams/<id>.yaml   the configurations made over HTTP, as they came; `deltaforge streams <dir>/streams` runs them
//	statuses.json       the status that each pipeline was given, those of configuration files too
//	lock                held by the process that uses the directory
const (
	streamsDir   = "streams"
	statusesFile = "statuses.json"
	lockFile     = "lock"
	configSuffix = ".yaml"
)

// Pipeline is what is kept of a pipeline besides its configuration.
type Pipeline struct {
	Status string `json:"status"`
	// Chilled means that the configuration was accepted with lint errors.
	Chilled bool `json:"chilled,omitempty"`
}

// Dir is the state directory, or nothing at all when there is none.
type Dir struct {
	dir  string
	lock *os.File

	mu        sync.Mutex
	pipelines map[string]Pipeline // guarded by mu
}

// Open opens the directory, which is made when it is not there. The empty name keeps nothing.
func Open(dir string) (*Dir, error) {
	s := &Dir{dir: dir, pipelines: map[string]Pipeline{}}
	if dir == "" {
		return s, nil
	}
	wrap := func(err error) error {
		return fmt.Errorf("state directory %s: %w; give a --state-dir that this process can write", dir, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, streamsDir), 0o700); err != nil {
		return nil, wrap(err)
	}
	probe, err := os.CreateTemp(filepath.Join(dir, streamsDir), ".probe-*")
	if err != nil {
		return nil, wrap(err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return nil, wrap(err)
	}
	if s.lock, err = lockPath(filepath.Join(dir, lockFile)); err != nil {
		return nil, fmt.Errorf("state directory %s is used by another process: %w", dir, err)
	}
	if err := s.read(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Dir) read() error {
	path := filepath.Join(s.dir, statusesFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &s.pipelines); err != nil {
		return fmt.Errorf("%s: %w; mend it, or delete it to run every pipeline", path, err)
	}
	for id, p := range s.pipelines {
		switch p.Status {
		case Running, Paused, Stopped:
		default:
			return fmt.Errorf("%s: pipeline %q: want the status running, paused or stopped, got %q", path, id, p.Status)
		}
	}
	return nil
}

// Close lets other processes use the directory.
func (s *Dir) Close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Saved returns what is kept of each pipeline.
func (s *Dir) Saved() map[string]Pipeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pipelines)
}

// Set keeps the status of a pipeline; nil forgets it.
func (s *Dir) Set(id string, p *Pipeline) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := maps.Clone(s.pipelines)
	if p == nil {
		delete(s.pipelines, id)
	} else {
		s.pipelines[id] = *p
	}
	if s.dir == "" || maps.Equal(before, s.pipelines) {
		return nil
	}
	data, err := json.MarshalIndent(s.pipelines, "", "  ")
	if err == nil {
		err = replaceFile(filepath.Join(s.dir, statusesFile), append(data, '\n'))
	}
	if err != nil {
		s.pipelines = before
		return fmt.Errorf("saving the status of pipeline %q: %w", id, err)
	}
	return nil
}

// Path returns the file of a configuration.
func (s *Dir) Path(id string) string { return filepath.Join(s.dir, streamsDir, id+configSuffix) }

// Configs returns the saved configurations by id.
func (s *Dir) Configs() (map[string][]byte, error) {
	all := map[string][]byte{}
	if s.dir == "" {
		return all, nil
	}
	files, err := os.ReadDir(filepath.Join(s.dir, streamsDir))
	if err != nil {
		return nil, fmt.Errorf("reading the saved pipelines: %w", err)
	}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), configSuffix)
		if !ok || f.IsDir() || ValidID(id) != nil {
			continue
		}
		if all[id], err = os.ReadFile(s.Path(id)); err != nil {
			return nil, fmt.Errorf("reading the saved pipeline %q: %w", id, err)
		}
	}
	return all, nil
}

// SaveConfig keeps the configuration of a pipeline.
func (s *Dir) SaveConfig(id string, config []byte) error {
	if s.dir == "" {
		return nil
	}
	if err := replaceFile(s.Path(id), config); err != nil {
		return fmt.Errorf("saving the configuration of pipeline %q: %w", id, err)
	}
	return nil
}

// DeleteConfig forgets the configuration of a pipeline, if it has one.
func (s *Dir) DeleteConfig(id string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(s.Path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting the configuration of pipeline %q: %w", id, err)
	}
	return nil
}

// replaceFile writes a file as a whole: after a crash it is the old one or the new one.
func replaceFile(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600: configurations hold secrets
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, wErr := tmp.Write(data)
	if err := errors.Join(wErr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

const maxID = 128

// ValidID reports why a string cannot be the id of a pipeline made over HTTP: it is a path segment and a file name, and
// the engine derives it from that file name again.
func ValidID(id string) error {
	ok := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`).MatchString(id) && len(id) <= maxID
	for _, suffix := range []string{".yaml", ".yml", "_benthos_test"} {
		ok = ok && !strings.HasSuffix(id, suffix)
	}
	if !ok || id == "streams" {
		return fmt.Errorf("stream id %q: want up to %d letters, digits, '_', '.', '-', starting with a letter or digit, "+
			"not ending in .yaml, .yml or _benthos_test, and not the word streams", id, maxID)
	}
	return nil
}

// The statuses of a pipeline. Running, paused and stopped are what it was told to be; failed is what became of it.
const (
	Running = "running"
	Paused  = "paused"
	Stopped = "stopped"
	Failed  = "failed"
)
