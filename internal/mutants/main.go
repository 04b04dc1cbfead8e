// Command mutants plants small slips into the code, one at a time, and runs the tests that ought to notice: those of the package, without
// servers. It prints the slips that no test has noticed, and its exit code is 1 when there are any. Nothing in the working tree is
// changed: the compiler gets the changed file by its -overlay flag.
//
// Tests that do not end in time say nothing: the slip may make them hang, or the machine may be busy. They are run once more. If they do not
// end then either, the slip has timed out, which is a failure of its own.
//
//	go run ./internal/mutants [-run PATTERN] [-part K/N] [-timeout DURATION] [-list]
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

// verdict is what became of a slip.
type verdict string

const (
	noticed  verdict = "noticed"
	survived verdict = "SURVIVED"
	timedOut verdict = "TIMED OUT"
)

// attempts is how often tests are run that do not end in time.
const attempts = 2

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	pattern := flags.String("run", ".", "plant the slips whose name or file matches")
	piece := flags.String("part", "1/1", "plant the K-th of N parts of them")
	timeout := flags.Duration("timeout", 3*time.Minute, "how long the tests of one package may run with a slip")
	list := flags.Bool("list", false, "print the slips and run nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(slips(), *pattern, *piece)
	if err != nil {
		return err
	}
	if *list {
		for _, s := range chosen {
			fmt.Fprintf(out, "%s: %s\n", s.file, s.name)
		}
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	count := map[verdict]int{}
	for _, s := range chosen {
		began := time.Now()
		v, err := s.plant(ctx, *timeout)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.file, s.name, err)
		}
		count[v]++
		fmt.Fprintf(out, "%-9s %5.1f s  %s: %s\n", v, time.Since(began).Seconds(), s.file, s.name)
	}
	fmt.Fprintf(out, "%d slips, %d noticed, %d survived, %d timed out\n", len(chosen), count[noticed], count[survived], count[timedOut])
	return failure(count)
}

// failure is what is wrong with the verdicts.
func failure(count map[verdict]int) error {
	var errs []error
	if count[survived] > 0 {
		errs = append(errs, errors.New("some slips were not noticed: write the tests that would have seen them"))
	}
	if count[timedOut] > 0 {
		errs = append(errs, errors.New("some slips have timed out: run them alone, with a longer -timeout; if their tests hang then, too, "+
			"bound what the tests wait for, so that they fail"))
	}
	return errors.Join(errs...)
}

// choose returns the slips that match a pattern, and of those the K-th of N parts.
func choose(all []slip, pattern, piece string) ([]slip, error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	var k, n int
	if _, err := fmt.Sscanf(piece, "%d/%d", &k, &n); err != nil || k < 1 || k > n || piece != fmt.Sprintf("%d/%d", k, n) {
		return nil, fmt.Errorf("-part: want K/N, such as 2/8, got %q", piece)
	}
	var matched, chosen []slip
	for _, s := range all {
		if match.MatchString(s.name) || match.MatchString(s.file) {
			matched = append(matched, s)
		}
	}
	for i, s := range matched {
		if i%n == k-1 {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
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

// plant runs the tests with the slip, once more if they do not end in time.
func (s slip) plant(ctx context.Context, timeout time.Duration) (v verdict, err error) {
	text, err := s.changed()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	original, err := filepath.Abs(s.file)
	if err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutant}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(mutant, text, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	pkgs := s.pkgs
	if len(pkgs) == 0 {
		pkgs = []string{"./" + filepath.Dir(s.file)}
	}
	args := append([]string{"test", "-short", "-count=1", "-vet=off", "-timeout", timeout.String(), "-overlay", overlay}, pkgs...)
	for range attempts {
		test := exec.CommandContext(ctx, "go", args...)
		test.WaitDelay = time.Second
		out, err := test.CombinedOutput()
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if v, err = judge(string(out), err); err != nil || v != timedOut {
			return v, err
		}
	}
	return v, nil
}

// judge returns what the output of `go test` and its exit code say about a slip.
func judge(out string, failed error) (verdict, error) {
	exit := (*exec.ExitError)(nil)
	switch {
	case failed == nil:
		return survived, nil
	case !errors.As(failed, &exit):
		return "", fmt.Errorf("%w\n%s", failed, out)
	case strings.Contains(out, "[build failed]"), strings.Contains(out, "[setup failed]"):
		return "", fmt.Errorf("does not compile:\n%s", out)
	case strings.Contains(out, "panic: test timed out after") && !strings.Contains(out, "--- FAIL"):
		return timedOut, nil
	default:
		return noticed, nil
	}
}
