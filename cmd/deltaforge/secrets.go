package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// learnEnvironment makes the values of environment variables whose names say that they are secret known as such.
func learnEnvironment() {
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); redact.Name(name) {
			redact.Add(value)
		}
	}
}

// quoted are the environment variables whose values the engine must see in quotes. It puts values into the text of a
// configuration before it reads that: of `password: ${X}` without quotes, the password 0123 becomes a number, and of "a #b" the
// end is a comment.
type quoted map[string]bool

// scan reads configuration files and finds the variables that stand bare in secret fields. A secret field with a number or a
// truth value in the text itself is an error: what a YAML parser makes of 0123 or 1e3 is not what was written.
func (q *quoted) scan(patterns []string) error {
	elsewhere := map[string]bool{}
	found := map[string]bool{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			continue // the engine says so
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // a folder, or the engine says so
			}
			document.SecretReferences(text, found, elsewhere)
			document.Learn(text)
			if err := document.CheckSecrets(text); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	*q = quoted{}
	for name := range found {
		if !elsewhere[name] {
			(*q)[name] = true
		}
	}
	return nil
}

// lookup is called by the engine for each reference in a configuration.
func (q *quoted) lookup(_ context.Context, name string) (string, bool) {
	value, found := os.LookupEnv(name)
	if redact.Name(name) {
		redact.Add(value)
	}
	if found && (*q)[name] {
		redact.Add(value)
		return string(document.Quote(value)), true
	}
	return value, found
}
