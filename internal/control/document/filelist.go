package document

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// testSuffix ends the names of files that hold the tests of a stream.
const testSuffix = "_benthos_test"

// Files is the set of configuration files of streams.
type Files struct {
	Patterns []string // files, folders and globs, as the command line has them
}

// Expand returns the files by the id of their stream: the name of the file, and before it the folders below the one that was
// given, joined by underscores.
func (f Files) Expand() (paths map[string]string, err error) {
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
	for _, pattern := range f.Patterns {
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

// StreamConfig returns the configuration of a stream without the tests that are in its file.
func StreamConfig(text []byte) []byte {
	if !bytes.Contains(text, []byte("tests")) {
		return text
	}
	root, err := Mapping(text)
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
