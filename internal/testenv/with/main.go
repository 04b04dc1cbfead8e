// Command with starts a PostgreSQL, a MySQL, a MariaDB, an Apache Kafka and a Redis, runs a command with the environment variables that
// name them to package testenv, and ends with its exit code:
//
//	go run ./internal/testenv/with -- go test ./...
//
// Without a command it prints the variables and keeps the servers until it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/deltaforge/deltaforge/internal/servers"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(with(ctx, args))
}

// with returns the exit code.
func with(ctx context.Context, args []string) int {
	began := time.Now()
	env, stop, err := startAll(ctx)
	defer stop()
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "with: interrupted while the servers started")
		return 1
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "with: five servers in %v\n", time.Since(began).Round(100*time.Millisecond))
	if len(args) == 0 {
		for _, variable := range env {
			fmt.Printf("export %s\n", variable)
		}
		<-ctx.Done()
		return 0
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintf(os.Stderr, "with: running %s: %v\n", args[0], err)
		return 1
	}
}

// startAll starts the servers at once. Stop, which is never nil, ends those that run.
func startAll(ctx context.Context) (env []string, stop func(), err error) {
	opts := servers.Options{NoSync: true}
	starts := []func() (string, *servers.Server, error){
		func() (string, *servers.Server, error) {
			s, err := servers.StartPostgres(ctx, opts)
			if err != nil {
				return "", nil, err
			}
			return "DELTAFORGE_TEST_POSTGRES=" + s.DSN(""), s.Server, nil
		},
		func() (string, *servers.Server, error) {
			s, err := servers.StartMySQL(ctx, opts)
			if err != nil {
				return "", nil, err
			}
			return "DELTAFORGE_TEST_MYSQL=" + s.DSN(""), s.Server, nil
		},
		func() (string, *servers.Server, error) {
			s, err := servers.StartMariaDB(ctx, opts)
			if err != nil {
				return "", nil, err
			}
			return "DELTAFORGE_TEST_MARIADB=" + s.DSN(""), s.Server, nil
		},
		func() (string, *servers.Server, error) {
			s, err := servers.StartKafka(ctx, opts)
			if err != nil {
				return "", nil, err
			}
			return "DELTAFORGE_TEST_KAFKA=" + s.Addr(), s.Server, nil
		},
		func() (string, *servers.Server, error) {
			s, err := servers.StartRedis(ctx, opts)
			if err != nil {
				return "", nil, err
			}
			return "DELTAFORGE_TEST_REDIS=" + s.URL(), s.Server, nil
		},
	}
	env = make([]string, len(starts))
	running := make([]*servers.Server, len(starts))
	errs := make([]error, len(starts))
	var group sync.WaitGroup
	for i, start := range starts {
		group.Go(func() { env[i], running[i], errs[i] = start() })
	}
	group.Wait()
	stop = func() {
		for _, server := range running {
			if server == nil {
				continue
			}
			if err := server.Close(); err != nil {
				fmt.Fprintf(os.Stderr, "with: closing %s: %v\n", server.Name(), err)
			}
		}
	}
	return env, stop, errors.Join(errs...)
}
