// Command bench measures the real binary against real servers and against what bounds it: a client of the same database or
// broker that does nothing else. It prints a table and writes bench.json. The workloads, the configurations and the
// references are all in this folder, so that a number can be checked by whoever doubts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// limit bounds the whole run, once everything is built.
const limit = 12 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "reference" {
		err = runReference(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// suite is one run of the command.
type suite struct {
	dir     string // scratch, removed at the end
	bin     string // the binary that is measured
	self    string // this program, which is also the references
	rounds  int
	scale   float64
	profile string // where CPU profiles of the binary go; empty for none
	control bool
	servers serverSet
	results []result
	// rates are the medians of the cases that others are compared with.
	rates map[string]float64
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	s := &suite{rates: map[string]float64{}}
	out := flags.String("out", "bench.json", "the file for the results")
	flags.IntVar(&s.rounds, "rounds", 3, "how often each measurement is repeated")
	flags.Float64Var(&s.scale, "scale", 1, "multiplies the number of rows of every case")
	flags.StringVar(&s.profile, "profile", "", "a folder for CPU profiles of the measured process, and flame graphs of them; they cost a little speed")
	flags.BoolVar(&s.control, "control", true, "measure the binary against itself too, which shows how far equal things differ")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench [flags] [case ...]\n\ncases:", strings.Join(caseNames(), " "), "\n\nflags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	wanted, err := choose(flags.Args())
	if err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() { err = errors.Join(err, s.servers.close(), os.RemoveAll(s.dir)) }()

	var failed []error
	for _, c := range cases() {
		if !slices.ContainsFunc(c.names, func(n string) bool { return wanted[n] }) {
			continue
		}
		began := time.Now()
		if err := c.run(ctx, s, wanted); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", strings.Join(c.names, ", "), err))
			s.note("%v", failed[len(failed)-1])
		}
		s.note("%s took %.0f s", strings.Join(c.names, ", "), time.Since(began).Seconds())
		// After each case, so that a run that is interrupted has what it has measured.
		if err := writeResults(*out, s.results); err != nil {
			return err
		}
	}
	printTable(os.Stdout, s.results)
	return errors.Join(failed...)
}

// note tells, on standard error, what is going on.
func (s *suite) note(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// rows scales a number of rows; it stays a multiple of the rows of a transaction.
func (s *suite) rows(n int) int {
	return max(int(float64(n)*s.scale)/txRows, 2) * txRows
}

// prepare makes the scratch folder and builds the binary as it is released.
func (s *suite) prepare(ctx context.Context) (err error) {
	if s.rounds < 1 {
		return fmt.Errorf("rounds: want at least 1, got %d", s.rounds)
	}
	if s.self, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if s.profile != "" {
		if s.profile, err = filepath.Abs(s.profile); err == nil {
			err = os.MkdirAll(s.profile, 0o755)
		}
		if err != nil {
			return fmt.Errorf("making the folder for profiles: %w", err)
		}
	}
	if s.dir, err = os.MkdirTemp("", "deltaforge-bench-"); err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	s.bin = filepath.Join(s.dir, "deltaforge")
	s.note("building the binary")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", s.bin, "./cmd/deltaforge")
	if out, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("building ./cmd/deltaforge (run this from the top of the repository): %w\n%s", err, out), os.RemoveAll(s.dir))
	}
	return nil
}

// group is a set of cases that are measured together, on the same rows.
type group struct {
	names []string
	run   func(ctx context.Context, s *suite, wanted map[string]bool) error
	asked bool // it runs only when it is asked for
}

// cases are all of them, in the order in which they run: the ones that others are compared with come first.
func cases() []group {
	return []group{
		{[]string{"mysql_drop", "mysql_kafka", "mysql_redis"}, mysqlCases, false},
		{[]string{"mysql_kafka_eos", "mysql_redis_eos", "redis_hash"}, exactlyCases, false},
		{[]string{"postgres_drop", "postgres_kafka"}, postgresCases, false},
		{[]string{"mysql_single_row_tx", "postgres_single_row_tx"}, singleRowCases, false},
		{[]string{"huge_tx"}, hugeCase, false},
		{[]string{"mysql_wide", "mysql_4k"}, otherShapes, false},
		{[]string{"mysql_snapshot_drop", "mysql_snapshot_drop_4", "mysql_snapshot_bare"}, mysqlSnapshots, false},
		{[]string{"postgres_snapshot_drop", "postgres_snapshot_drop_4", "postgres_snapshot_bare"}, postgresSnapshots, false},
		{[]string{"latency"}, latencyCase, false},
		{[]string{"latency_loading"}, latencyLoadingCase, false},
		{[]string{"idle"}, idleCase, false},
		{[]string{"many_tables"}, manyTablesCase, false},
		{[]string{"formats"}, formatsCase, true},
	}
}

func caseNames() (names []string) {
	for _, g := range cases() {
		names = append(names, g.names...)
	}
	return names
}

// choose turns arguments into a set; none are all but those that have to be asked for. A part of a name stands for every case that has it.
func choose(args []string) (map[string]bool, error) {
	wanted := map[string]bool{}
	for _, g := range cases() {
		for _, name := range g.names {
			wanted[name] = len(args) == 0 && !g.asked
		}
	}
	for _, arg := range args {
		found := false
		exact := slices.Contains(caseNames(), arg)
		for _, name := range caseNames() {
			if name == arg || !exact && strings.Contains(name, arg) {
				wanted[name], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no case %q; there are %s", arg, strings.Join(caseNames(), ", "))
		}
	}
	return wanted, nil
}
