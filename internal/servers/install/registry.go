package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

func registryMissing() bool {
	_, err := binaries.Registry()
	return err != nil
}

// installRegistry fetches a schema registry, and compiles the program that reads with it.
func installRegistry(ctx context.Context) error {
	final, err := binaries.RegistryDir()
	if err != nil {
		return err
	}
	java, err := binaries.Java()
	if err != nil {
		return err
	}
	say("a schema registry, from Maven Central, into %s", final)
	return stage(final, func(dir string) error {
		if err := fetchJars(ctx, dir, binaries.RegistryPOM()); err != nil {
			return err
		}
		archives, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
		if err != nil || len(archives) != 1 {
			return errors.Join(errors.New("Maven has not brought one archive of the registry"), err)
		}
		if err := run(ctx, nil, "tar", "--extract", "--gzip", "--no-same-owner", "--file", archives[0], "--directory", dir); err != nil {
			return err
		}
		source := filepath.Join(dir, "Reader.java")
		if err := errors.Join(os.Remove(archives[0]), os.WriteFile(source, []byte(binaries.RegistryReader()), 0o644)); err != nil {
			return err
		}
		libraries, err := filepath.Glob(filepath.Join(dir, "lib", "*.jar"))
		if err != nil {
			return err
		}
		return run(ctx, nil, java, "-cp", filepath.Join(dir, "*"), "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-nowarn", "-proc:none",
			"-cp", strings.Join(libraries, string(filepath.ListSeparator)), "-d", dir, source)
	})
}
