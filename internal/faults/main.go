// Command faults runs the tests that docs/faults.md names, in their long form.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

const page = "docs/faults.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		stop()
		os.Exit(1)
	}
}

// run runs the tests, package by package. The arguments go to go test.
func run(ctx context.Context, args []string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	named, err := tests(string(text))
	if err != nil {
		return err
	}
	var failed []error
	for _, pkg := range slices.Sorted(maps.Keys(named)) {
		fmt.Printf("%s: %s\n", pkg, strings.Join(named[pkg], ", "))
		all := append([]string{"test", "-count=1", "-timeout", "2h", "-run", "^(" + strings.Join(named[pkg], "|") + ")$"}, args...)
		cmd := exec.CommandContext(ctx, "go", append(all, "./"+pkg)...) //nolint:gosec // what the page names
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", pkg, err))
		}
	}
	return errors.Join(failed...)
}

// tests reads the last column of the table: the tests by package.
func tests(text string) (map[string][]string, error) {
	named := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || !strings.Contains(cells[2], "Test") {
			continue
		}
		for part := range strings.SplitSeq(cells[2], ";") {
			m := regexp.MustCompile("^`([a-z0-9/]+)`: (Test\\w+(?:, Test\\w+)*)$").FindStringSubmatch(strings.TrimSpace(part))
			if m == nil {
				return nil, fmt.Errorf("%s: want `package`: TestA, TestB; got %q", page, part)
			}
			for name := range strings.SplitSeq(m[2], ", ") {
				if !slices.Contains(named[m[1]], name) {
					named[m[1]] = append(named[m[1]], name)
				}
			}
		}
	}
	return named, nil
}
