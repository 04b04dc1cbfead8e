package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/internal/control"
	"github.com/deltaforge/deltaforge/internal/control/document"
)

// errTaken ends the first reading of the command line: parts of it are ours, and the engine gets the rest.
var errTaken = errors.New("the command line is read again")

// takenFiles is what the command line gave to the engine and is done by us.
type takenFiles struct {
	args      []string               // the command line without it
	files     []string               // streams mode: the configurations of streams; run mode: the configuration
	resources []string               // the files of shared resources
	seen      string                 // run mode: the fingerprint of all files, from before the engine reads them
	seenParts *control.ResourceFiles // streams mode: what was seen of the shared resources before that
	watch     bool
	chilled   bool
}

// into gives the control plane the files of streams mode.
func (f *takenFiles) into(o *control.Options) {
	if f == nil {
		return
	}
	o.Files, o.ResourceFiles, o.Watch, o.Chilled = f.files, f.seenParts, f.watch, f.chilled
}

// takeFiles takes from the engine's command line what goes through the control plane: the configuration files of streams, of
// which one that is wrong would end the process, and the watching of files, which puts a configuration in place of a running
// one before it knows that it builds. It returns errTaken when there is something to take.
func (p *plane) takeFiles(c *cli.Context) error {
	files, resources := configFiles(c)
	if err := p.variables.scan(slices.Concat(files, resources)); err != nil {
		return err
	}
	if p.files != nil || p.streams && p.why != "" {
		return nil // taken before, or left to the engine
	}
	t := &takenFiles{resources: resources, args: os.Args}
	for _, outer := range c.Lineage() {
		if outer.Command != nil {
			t.watch = t.watch || outer.Bool("watcher")
			t.chilled = t.chilled || outer.Bool("chilled")
		}
	}
	switch {
	case p.streams:
		t.files = c.Args().Slice()
		t.args = t.args[:len(t.args)-len(t.files)] // flags are before the first file
	case t.watch:
		if len(c.StringSlice("set")) > 0 {
			return errors.New("--watcher cannot check a configuration that --set changes: write the fields into the file")
		}
		t.files = files
	}
	if len(t.files) == 0 && !t.watch {
		return nil
	}
	t.args = slices.DeleteFunc(slices.Clone(t.args), func(arg string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		return strings.HasPrefix(arg, "-") && (name == "w" || name == "watcher")
	})
	t.seen, t.seenParts = t.fingerprint(), control.NewResourceFiles(resources)
	p.files = t
	return errTaken
}

// configFiles returns the files that the engine would read: those of streams or the main one, and those of resources.
func configFiles(c *cli.Context) (files, resources []string) {
	for _, outer := range c.Lineage() {
		if outer.Command == nil {
			continue
		}
		for _, flag := range []string{"config", "observability"} {
			if path := outer.String(flag); path != "" && !slices.Contains(files, path) {
				files = append(files, path)
			}
		}
		for _, pattern := range outer.StringSlice("resources") {
			if !slices.Contains(resources, pattern) {
				resources = append(resources, pattern)
			}
		}
	}
	files = append(files, c.Args().Slice()...)
	if len(files) == 0 && c.Command.Name != "streams" {
		for _, path := range defaultConfigs() {
			if _, err := os.Stat(path); err == nil {
				return []string{path}, resources
			}
		}
	}
	return files, resources
}

func defaultConfigs() []string { return []string{"deltaforge.yaml", "/etc/deltaforge/deltaforge.yaml"} }

// watchRun restarts the process when the configuration of run mode has changed and builds, until ctx ends. What does not
// build is refused, and the running pipeline goes on.
func (p *plane) watchRun(ctx context.Context) {
	seen := p.files.seen
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := p.files.fingerprint()
		if now == seen {
			continue
		}
		seen = now
		log := p.log.Logger().With("target", "control")
		if err := p.files.check(ctx, p.server); err != nil {
			log.Error("The changed configuration is refused; the pipeline goes on with the old one", "error", err.Error())
			continue
		}
		log.Info("The configuration has changed: starting again with it")
		p.restart.Store(true)
		if err := interruptSelf(); err != nil {
			log.Error("Starting again", "error", err.Error())
			p.restart.Store(false)
		}
		return
	}
}

// all returns the files that exist, patterns resolved.
func (f *takenFiles) all() (paths []string) {
	for _, pattern := range slices.Concat(f.files, f.resources) {
		found, err := filepath.Glob(pattern)
		if err == nil {
			paths = append(paths, found...)
		}
	}
	return paths
}

// fingerprint changes when one of the files does.
func (f *takenFiles) fingerprint() string {
	var b strings.Builder
	for _, path := range f.all() {
		fmt.Fprintln(&b, path, document.Fingerprint(path))
	}
	return b.String()
}

// check builds the configuration that is in the files now.
func (f *takenFiles) check(ctx context.Context, server *control.Server) error {
	var errs []error
	for _, path := range f.files {
		text, err := os.ReadFile(path)
		if err == nil {
			err = server.CheckMain(ctx, text, f.chilled)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}
