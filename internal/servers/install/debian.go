package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

const (
	policyFile   = "/usr/sbin/policy-rc.d"
	policyMarker = "# written by the deltaforge install command, which removes it"
)

// canInstallPackages says why packages cannot be installed here, or nil.
func canInstallPackages() error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("this system has no apt-get, so the servers cannot be installed from here")
	}
	if os.Geteuid() != 0 {
		return errors.New("installing packages needs root")
	}
	return nil
}

// installPackages installs Debian packages without letting them start their services: the tests run private instances.
func installPackages(ctx context.Context, packages []string) (err error) {
	say("Debian packages %s", strings.Join(packages, " "))
	restore, err := forbidServices()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	// An installation that was interrupted leaves packages unpacked but not configured, and apt-get refuses to go on.
	if err := run(ctx, env, "dpkg", "--configure", "-a"); err != nil {
		return err
	}
	if err := run(ctx, env, "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"); err != nil {
		return err
	}
	return run(ctx, env, "apt-get", append([]string{
		"-q", "-y", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends", "install",
	}, packages...)...)
}

// forbidServices keeps packages from starting services while they are installed, by the file that Debian provides for that,
// and returns what undoes it. An administrator's own file stays as it is.
func forbidServices() (restore func() error, err error) {
	content, err := os.ReadFile(policyFile)
	switch {
	case err == nil && !strings.Contains(string(content), policyMarker):
		return func() error { return nil }, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if err := os.WriteFile(policyFile, []byte("#!/bin/sh\n"+policyMarker+"\nexit 101\n"), 0o755); err != nil {
		return nil, fmt.Errorf("keeping packages from starting services: %w", err)
	}
	return func() error { return os.Remove(policyFile) }, nil
}

// installMySQL unpacks MySQL and every library it needs out of Debian's unstable suite, the only one that has it. Nothing of it
// touches the system's own packages.
func installMySQL(ctx context.Context, prefix string) error {
	final := filepath.Join(prefix, "mysql")
	say("MySQL, from Debian unstable, into %s", final)
	return stage(final, func(dir string) error {
		return unpackUnstable(ctx, prefix, dir, checkMySQL, "--no-install-recommends", "--download-only", "install",
			"mysql-server-core", "mysql-client-core")
	})
}

// installPgvector unpacks pgvector, which the stable suite does not have, and the C library that it is built against. The rest of what
// the package depends on is the fetched PostgreSQL.
func installPgvector(ctx context.Context, prefix, final string) error {
	say("pgvector, from Debian unstable, into %s", final)
	return stage(final, func(dir string) error {
		return unpackUnstable(ctx, prefix, dir, checkPgvector, "download", "postgresql-"+binaries.EmbeddedPostgresMajor+"-pgvector", "libc6")
	})
}

func checkPgvector(_ context.Context, dir string) error {
	if _, ok := binaries.PgvectorIn(dir); !ok {
		return errors.New("no pgvector in the packages that were unpacked")
	}
	return nil
}

// unpackUnstable unpacks the packages that an apt-get command brings out of Debian's unstable suite into dir, and checks what it got.
func unpackUnstable(ctx context.Context, prefix, dir string, check func(context.Context, string) error, command ...string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("this system has no apt-get to bring packages of Debian unstable with; for MySQL, a server 8.0 or newer in PATH does")
	}
	source, err := systemSource()
	if err != nil {
		return err
	}
	work := filepath.Join(prefix, "apt.partial")
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	err = errors.Join(downloadUnstable(ctx, source, work, dir, command), os.RemoveAll(work))
	if err != nil {
		return err
	}
	return check(ctx, dir)
}

func downloadUnstable(ctx context.Context, source aptSource, work, dir string, command []string) error {
	archives := filepath.Join(work, "cache/archives")
	for _, sub := range []string{"sources", "lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, sub), 0o755); err != nil {
			return err
		}
	}
	status := filepath.Join(work, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, "sources/sid.sources"), []byte(source.forSuite("sid")), 0o644); err != nil {
		return err
	}
	options := []string{
		"-q", "-y",
		"-o", "APT::Sandbox::User=root",
		// A mirror frozen at a date serves an unstable suite that is past its date. The signature is checked all the same, and an old
		// server does for tests.
		"-o", "Acquire::Check-Valid-Until=false",
		"-o", "Dir::Etc::sourcelist=/dev/null",
		"-o", "Dir::Etc::sourceparts=" + filepath.Join(work, "sources"),
		"-o", "Dir::Etc::preferences=/dev/null",
		"-o", "Dir::Etc::preferencesparts=/dev/null",
		"-o", "Dir::State::lists=" + filepath.Join(work, "lists"),
		// An empty list of installed packages makes apt fetch every dependency, the C library included.
		"-o", "Dir::State::status=" + status,
		"-o", "Dir::State::extended_states=" + filepath.Join(work, "extended_states"),
		"-o", "Dir::Cache=" + filepath.Join(work, "cache"),
		"-o", "Debug::NoLocking=true",
	}
	if err := runIn(ctx, archives, nil, "apt-get", append(options, "update")...); err != nil {
		return err
	}
	// "install" keeps what it downloads in the cache, "download" in the current directory.
	if err := runIn(ctx, archives, nil, "apt-get", append(options, command...)...); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, archive := range found {
		if err := run(ctx, nil, "dpkg", "-x", archive, dir); err != nil {
			return err
		}
	}
	return nil
}

func checkMySQL(ctx context.Context, dir string) error {
	server, ok := binaries.MySQLIn(dir)
	if !ok {
		return errors.New("no mysqld in the packages that were unpacked")
	}
	return run(ctx, nil, server.Command[0], append(server.Command[1:], "--no-defaults", "--version")...)
}
