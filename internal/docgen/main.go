// Command docgen writes the reference page of every DeltaForge component from its configuration spec.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/deltaforge/deltaforge/internal/docgen/reference"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docgen FOLDER")
		os.Exit(2)
	}
	pages, err := reference.Pages()
	if err == nil {
		err = write(os.Args[1], pages)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string, pages map[string]string) error {
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
