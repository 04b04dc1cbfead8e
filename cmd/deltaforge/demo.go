package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/internal/demo"
)

// exitAborted is the exit code of a program that Ctrl-C has ended.
const exitAborted = 130

// demoCommand shows DeltaForge at work, with nothing installed or configured.
func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "See it work: a shop in a private database, streamed to a Kafka inside this process",
		Description: "Starts a private PostgreSQL (an installed one, else one that is fetched), a Kafka inside this process and the " +
			"real pipeline between them, shows what flows, and at the end compares every row written with the events received. The exit " +
			"code is not 0 when they differ. Everything that it makes is in a temporary directory and is removed at the end.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "mysql", Usage: "run the shop on an installed MySQL or MariaDB instead of PostgreSQL"},
			&cli.DurationFlag{Name: "for", Usage: "end after this `time`, such as 20s (default: at Ctrl-C)"},
			&cli.IntFlag{Name: "rate", Value: 300, Usage: "`rows` that the shop writes a second"},
			&cli.StringFlag{
				Name: "metrics-address", Value: "127.0.0.1:9000",
				Usage: "`host:port` of the metrics page; another port is used when it is taken",
			},
		},
		Action: runDemo,
	}
}

func runDemo(c *cli.Context) error {
	ctx, stop, release := interrupts(c.Context)
	defer release()
	err := demo.Run(ctx, stop, demo.Options{
		MySQL: c.Bool("mysql"), For: c.Duration("for"), Rate: c.Int("rate"), MetricsAddress: c.String("metrics-address"),
		Out: os.Stdout, Terminal: isTerminal(os.Stdout),
	})
	if errors.Is(err, context.Canceled) {
		return cli.Exit("aborted", exitAborted)
	}
	return err
}

// interrupts returns a channel that the first Ctrl-C closes and a context that the second one ends. A closed pipe counts as
// a Ctrl-C once: the writes after it fail, too.
func interrupts(parent context.Context) (ctx context.Context, stop <-chan struct{}, release func()) {
	ctx, cancel := context.WithCancel(parent)
	signals, stopped, done := make(chan os.Signal, 4), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go heedGuarded(signals, stopped, done, cancel)
	return ctx, stopped, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// heedGuarded is heed. A panic in it cancels: nobody would hear the next Ctrl-C.
func heedGuarded(signals <-chan os.Signal, stopped chan<- struct{}, done <-chan struct{}, cancel func()) {
	defer func() {
		if recover() != nil {
			cancel()
		}
	}()
	heed(signals, stopped, done, cancel)
}

// heed closes stopped at the first signal and cancels at the second, until done is closed.
func heed(signals <-chan os.Signal, stopped chan<- struct{}, done <-chan struct{}, cancel func()) {
	for first := true; ; first = false {
		select {
		case sig := <-signals:
			switch {
			case first:
				close(stopped)
			case sig != syscall.SIGPIPE:
				cancel()
			}
		case <-done:
			return
		}
	}
}

// isTerminal reports whether file is a terminal that understands escape sequences.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	term := os.Getenv("TERM")
	return term != "" && term != "dumb"
}
