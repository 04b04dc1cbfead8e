// Command install brings the servers that tests, benchmarks and the demo run: Debian packages for PostgreSQL, MariaDB, Redis,
// Prometheus, Java and Maven, and, in a private directory, MySQL, Apache Kafka, Debezium, a schema registry and a newer PostgreSQL with pgvector. It does nothing when everything is there,
// and finishes what an interrupted run left half done.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := install(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

func install(ctx context.Context) error {
	if len(missingPackages()) == 0 && !mysqlMissing() && !kafkaMissing() && !debeziumMissing() && !registryMissing() && !newPostgresMissing() && !pgvectorMissing() {
		return nil
	}
	prefix, err := binaries.Prefix()
	if err != nil {
		return err
	}
	unlock, err := lock(prefix)
	if err != nil {
		return err
	}
	defer unlock()
	// Everything is looked at again: another run may have been the one that held the lock.
	if missing := missingPackages(); len(missing) > 0 {
		if err := canInstallPackages(); err != nil {
			return fmt.Errorf("%w; run `apt-get install %s` as root, then this command again", err, strings.Join(missing, " "))
		}
		if err := installPackages(ctx, missing); err != nil {
			return err
		}
	}
	if mysqlMissing() {
		if err := installMySQL(ctx, prefix); err != nil {
			return fmt.Errorf("installing MySQL: %w", err)
		}
	}
	if kafkaMissing() {
		if err := installKafka(ctx); err != nil {
			return fmt.Errorf("installing Apache Kafka: %w", err)
		}
	}
	if debeziumMissing() {
		if err := installDebezium(ctx); err != nil {
			return fmt.Errorf("installing Debezium: %w", err)
		}
	}
	if registryMissing() {
		if err := installRegistry(ctx); err != nil {
			return fmt.Errorf("installing the schema registry: %w", err)
		}
	}
	return installNewPostgres(ctx, prefix)
}

func installNewPostgres(ctx context.Context, prefix string) error {
	if newPostgresMissing() {
		say("PostgreSQL %s, from Maven Central, into %s", binaries.EmbeddedPostgresMajor, prefix)
		if err := servers.FetchPostgres(ctx); err != nil {
			return fmt.Errorf("fetching PostgreSQL %s: %w", binaries.EmbeddedPostgresMajor, err)
		}
	}
	if pgvectorMissing() {
		dir, err := binaries.PgvectorDir()
		if err != nil {
			return err
		}
		if err := installPgvector(ctx, prefix, dir); err != nil {
			return fmt.Errorf("installing pgvector: %w", err)
		}
	}
	return nil
}

func mysqlMissing() bool {
	_, err := binaries.MySQL()
	return err != nil
}

func newPostgresMissing() bool {
	root, err := binaries.EmbeddedPostgres()
	if err != nil {
		return true
	}
	_, err = os.Stat(filepath.Join(root, "bin/postgres"))
	return err != nil
}

func pgvectorMissing() bool {
	dir, err := binaries.PgvectorDir()
	if err != nil {
		return true
	}
	_, ok := binaries.PgvectorIn(dir)
	return !ok
}

func kafkaMissing() bool {
	_, err := binaries.Kafka()
	return err != nil
}

func debeziumMissing() bool {
	_, err := binaries.Debezium()
	return err != nil
}

// missingPackages lists the Debian packages to install.
func missingPackages() []string {
	checks := []func() error{
		func() error { _, err := binaries.Postgres(); return err },
		func() error { _, _, err := binaries.MariaDB(); return err },
		func() error { _, err := binaries.Redis(); return err },
		func() error { _, _, err := binaries.Prometheus(); return err },
		func() error { _, err := binaries.Java(); return err },
	}
	if kafkaMissing() || debeziumMissing() || registryMissing() {
		checks = append(checks, func() error { _, err := binaries.Maven(); return err })
	}
	var packages []string
	// The race detector links with the system's C compiler.
	if _, err := exec.LookPath("gcc"); err != nil {
		packages = append(packages, "gcc", "libc6-dev")
	}
	for _, check := range checks {
		if missing, ok := errors.AsType[*binaries.MissingError](check()); ok {
			packages = append(packages, missing.Package)
		}
	}
	return packages
}

// lock makes concurrent runs take turns. It creates prefix.
func lock(prefix string) (unlock func(), err error) {
	if err := os.MkdirAll(prefix, 0o755); err != nil {
		return nil, fmt.Errorf("creating the directory for servers: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(prefix, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the installation lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file.Name(), err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// stage fills a fresh directory and then gives it its final name, so that a directory of that name is always complete.
// What an interrupted run staged is thrown away. The caller holds the lock.
func stage(final string, fill func(dir string) error) error {
	dir := final + ".partial"
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := fill(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := os.RemoveAll(final); err != nil {
		return err
	}
	return os.Rename(dir, final)
}

// run executes a program and shows what it prints only when it fails.
func run(ctx context.Context, env []string, name string, args ...string) error {
	return runIn(ctx, "", env, name, args...)
}

func runIn(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "install: "+format+"\n", args...) }

func installKafka(ctx context.Context) error {
	final, err := binaries.KafkaDir()
	if err != nil {
		return err
	}
	say("Apache Kafka, from Maven Central, into %s", final)
	return stage(final, func(dir string) error { return fetchJars(ctx, dir, binaries.KafkaPOM()) })
}

// installDebezium fetches Debezium and compiles the program that runs it. The compiler is a jar, too: a JRE is enough.
func installDebezium(ctx context.Context) error {
	final, err := binaries.DebeziumDir()
	if err != nil {
		return err
	}
	java, err := binaries.Java()
	if err != nil {
		return err
	}
	say("Debezium, from Maven Central, into %s", final)
	return stage(final, func(dir string) error {
		if err := fetchJars(ctx, dir, binaries.DebeziumPOM()); err != nil {
			return err
		}
		source := filepath.Join(dir, "Engine.java")
		if err := os.WriteFile(source, []byte(binaries.DebeziumEngine()), 0o644); err != nil {
			return err
		}
		return run(ctx, nil, java, "-cp", filepath.Join(dir, "*"), "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-nowarn", "-proc:none",
			"-cp", filepath.Join(dir, "debezium-api-"+debeziumVersion+".jar"), "-d", dir, source)
	})
}

// debeziumVersion is the one in DebeziumPOM.
const debeziumVersion = "3.6.1.Final"

// fetchJars copies what a Maven project needs at run time into a directory.
func fetchJars(ctx context.Context, dir, project string) error {
	mvn, err := binaries.Maven()
	if err != nil {
		return err
	}
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, []byte(project), 0o644); err != nil {
		return err
	}
	return run(ctx, nil, mvn, "--batch-mode", "--quiet", "--file", pom,
		"org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+dir)
}
