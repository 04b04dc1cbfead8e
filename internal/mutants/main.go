// Command mutants plants small slips into the code, one at a time, and runs the tests that ought to notice: those of the package, without
// servers. It prints the slips that no test has noticed, and its exit code is 1 when there are any. Nothing in the working tree is
// changed: the compiler gets the changed file by its -overlay flag.
//
//	go run ./internal/mutants [-run PATTERN] [-list]
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// slip is one mutant.
type slip struct {
	name string // what is wrong with it
	file string // from the root of the module
	old  string // stands in the file once
	new  string
	pkgs []string // the packages whose tests ought to notice; none: that of the file
}

// timeout bounds the tests of one slip: a slip that makes them hang is noticed, too.
const timeout = 5 * time.Minute

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	pattern := flags.String("run", ".", "plant the slips whose name or file matches")
	list := flags.Bool("list", false, "print the slips and run nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	survived, planted := 0, 0
	for _, s := range slips() {
		if !chosen.MatchString(s.name) && !chosen.MatchString(s.file) {
			continue
		}
		if *list {
			fmt.Fprintf(out, "%s: %s\n", s.file, s.name)
			continue
		}
		planted++
		noticed, took, err := s.plant(ctx)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.file, s.name, err)
		}
		verdict := "noticed"
		if !noticed {
			survived++
			verdict = "SURVIVED"
		}
		fmt.Fprintf(out, "%-8s %5.1f s  %s: %s\n", verdict, took.Seconds(), s.file, s.name)
	}
	if *list {
		return nil
	}
	fmt.Fprintf(out, "%d slips, %d noticed, %d survived\n", planted, planted-survived, survived)
	if survived > 0 {
		return errors.New("some slips were not noticed: write the tests that would have seen them")
	}
	return nil
}

// changed returns the file with the slip in it.
func (s slip) changed() ([]byte, error) {
	text, err := os.ReadFile(s.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(s.old)); n != 1 {
		return nil, fmt.Errorf("stands in the file %d times, not once: %q", n, s.old)
	}
	return bytes.Replace(text, []byte(s.old), []byte(s.new), 1), nil
}

// plant runs the tests with the slip. It reports whether they have failed.
func (s slip) plant(ctx context.Context) (noticed bool, took time.Duration, err error) {
	text, err := s.changed()
	if err != nil {
		return false, 0, err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return false, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	original, err := filepath.Abs(s.file)
	if err != nil {
		return false, 0, err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutant}})
	if err != nil {
		return false, 0, err
	}
	if err := errors.Join(os.WriteFile(mutant, text, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return false, 0, err
	}
	pkgs := s.pkgs
	if len(pkgs) == 0 {
		pkgs = []string{"./" + filepath.Dir(s.file)}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	build := exec.CommandContext(ctx, "go", append([]string{"build", "-overlay", overlay}, pkgs...)...)
	if out, err := build.CombinedOutput(); err != nil {
		return false, 0, fmt.Errorf("does not compile: %w\n%s", err, out)
	}
	test := exec.CommandContext(ctx, "go", append([]string{"test", "-short", "-count=1", "-overlay", overlay}, pkgs...)...)
	test.WaitDelay = time.Second
	out, err := test.CombinedOutput()
	took = time.Since(began)
	if err == nil {
		return false, took, nil
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) && ctx.Err() == nil {
		return false, took, fmt.Errorf("%w\n%s", err, out)
	}
	if strings.Contains(string(out), "[build failed]") {
		return false, took, fmt.Errorf("the tests do not compile:\n%s", out)
	}
	return true, took, nil
}
