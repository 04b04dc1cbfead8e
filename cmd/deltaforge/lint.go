package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/internal/advice"
)

// lintStreams says what the engine's linter cannot see, since it looks at one field at a time. It prints as that one does, which comes next.
func (p *plane) lintStreams(c *cli.Context) {
	for _, path := range lintFiles(c.Args().Slice()) {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the engine says so
		}
		found, err := advice.Of(text)
		if err != nil {
			continue
		}
		for _, f := range found {
			p.advised++
			_, _ = fmt.Fprintf(os.Stderr, "%s(%d,1) %s\n", path, f.Line, f)
		}
	}
}

// lintFiles returns the files that the arguments of `lint` mean, as the engine takes them.
func lintFiles(args []string) (files []string) {
	isConfig := func(path string) bool { return slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path)) }
	for _, arg := range args {
		if dir, all := strings.CutSuffix(arg, "..."); all {
			_ = filepath.WalkDir(filepath.Clean(dir), func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && isConfig(path) {
					files = append(files, path)
				}
				return nil
			})
			continue
		}
		if found, err := filepath.Glob(arg); err == nil {
			files = append(files, slices.DeleteFunc(found, func(path string) bool { return !isConfig(path) })...)
		}
	}
	return files
}

// warnOfStream logs what gives up a guarantee in the stream of run mode.
func warnOfStream(conf *service.ParsedConfig) {
	all := map[string]any{}
	for _, name := range []string{"input", "buffer", "pipeline", "output", "cache_resources", "processor_resources", "output_resources", "input_resources"} {
		all[name] = section(conf, name)
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return
	}
	found, _ := advice.Of(text) // it is YAML: it was just made
	for _, f := range found {
		conf.Resources().Logger().Warnf("This stream gives up a guarantee of its source. %s", f)
	}
}
