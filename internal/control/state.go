package control

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

// savedPipeline is what is kept of a pipeline besides its configuration.
type savedPipeline struct {
	Status string `json:"status"`
	// Chilled means that the configuration was accepted with lint errors.
	Chilled bool `json:"chilled,omitempty"`
}

// state is the state directory, or nothing at all when there is none.
type state struct {
	dir  string
	lock *os.File

	mu        sync.Mutex
	pipelines map[string]savedPipeline // guarded by mu
}

func openState(dir string) (*state, error) {
	s := &state{dir: dir, pipelines: map[string]savedPipeline{}}
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
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *state) read() error {
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
		case statusRunning, statusPaused, statusStopped:
		default:
			return fmt.Errorf("%s: pipeline %q: want the status running, paused or stopped, got %q", path, id, p.Status)
		}
	}
	return nil
}

func (s *state) close() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// saved returns what is kept of each pipeline.
func (s *state) saved() map[string]savedPipeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pipelines)
}

// set keeps the status of a pipeline; nil forgets it.
func (s *state) set(id string, p *savedPipeline) error {
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

func (s *state) path(id string) string { return filepath.Join(s.dir, streamsDir, id+configSuffix) }

// configs returns the saved configurations by id.
func (s *state) configs() (map[string][]byte, error) {
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
		if !ok || f.IsDir() || validID(id) != nil {
			continue
		}
		if all[id], err = os.ReadFile(s.path(id)); err != nil {
			return nil, fmt.Errorf("reading the saved pipeline %q: %w", id, err)
		}
	}
	return all, nil
}

// saveConfig keeps the configuration of a pipeline.
func (s *state) saveConfig(id string, config []byte) error {
	if s.dir == "" {
		return nil
	}
	if err := replaceFile(s.path(id), config); err != nil {
		return fmt.Errorf("saving the configuration of pipeline %q: %w", id, err)
	}
	return nil
}

// deleteConfig forgets the configuration of a pipeline, if it has one.
func (s *state) deleteConfig(id string) error {
	if s.dir == "" {
		return nil
	}
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

// validID reports why a string cannot be the id of a pipeline made over HTTP: it is a path segment and a file name, and
// the engine derives it from that file name again.
func validID(id string) error {
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
