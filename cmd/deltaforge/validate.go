package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/internal/control"
)

// validateCommand is /validate of the control plane on the command line.
func validateCommand() *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "Lint configurations, build them and test their connections; nothing is changed",
		ArgsUsage: "FILE...",
		Description: "Each file is the configuration of a run, or of a stream. What is wrong is printed, and the exit code is 1. The tests connect to the databases, " +
			"brokers and Redis servers and say all that the stream would say at its start: a wrong password, a missing privilege, a log that is off. " +
			"What gives up a guarantee of a source is printed, too, and is no error.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "offline", Usage: "connect to nothing: lint and build only"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return cli.Exit("want at least one FILE", 1)
			}
			var failed []error
			for _, pattern := range c.Args().Slice() {
				paths, err := filepath.Glob(pattern)
				if err != nil || len(paths) == 0 {
					paths = []string{pattern} // for the error
				}
				for _, path := range paths {
					if err := validateFile(c, path); err != nil {
						failed = append(failed, err)
					}
				}
			}
			if len(failed) > 0 {
				return errors.Join(failed...)
			}
			return nil
		},
	}
}

func validateFile(c *cli.Context, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	report, err := control.ValidateFile(c.Context, text, !c.Bool("offline"))
	for _, advice := range report.Advice {
		fmt.Fprintf(c.App.Writer, "%s: warning: %s\n", path, advice)
	}
	for _, one := range report.Connections {
		fmt.Fprintf(c.App.Writer, "%s: %s: %s\n", path, one.Component, one.Status)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Fprintf(c.App.Writer, "%s: valid\n", path)
	return nil
}
