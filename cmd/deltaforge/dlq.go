package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/internal/deadletter"
)

const (
	pipelineFlag   = "pipeline"
	tableFlag      = "table"
	kindFlag       = "kind"
	limitFlag      = "limit"
	jsonFlag       = "json"
	allFlag        = "all"
	configFlag     = "config"
	processorsFlag = "processors"
)

// dlqCommand looks after dead letters.
func dlqCommand() *cli.Command {
	path := &cli.StringFlag{
		Name: pathFlag, Aliases: []string{"p"}, Value: deadletter.DefaultPath,
		Usage: "the file: `dead_letter.path` of the output, or `path` of deltaforge_dlq",
	}
	chosen := []cli.Flag{
		path,
		&cli.StringFlag{Name: pipelineFlag, Usage: "only those of the stream `ID`"},
		&cli.StringFlag{Name: tableFlag, Usage: "only those of the table `NAME`, such as shop.orders"},
		&cli.StringFlag{Name: kindFlag, Usage: "only those of the kind `KIND`, such as too_large"},
	}
	return &cli.Command{
		Name:  "dlq",
		Usage: "See, replay and purge the dead letters: events that could not be delivered",
		Description: "Works on the file, whether the pipeline runs or not. The usual way: `list` and `show` say what is wrong; mend the broker, the table or the " +
			"configuration; `replay` delivers the events again, in their order. A row may have changed since: an event that is replayed can come after newer ones " +
			"of its row.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "List the entries, oldest first",
				Flags:  slices.Concat(chosen, []cli.Flag{&cli.IntFlag{Name: limitFlag, Value: 100, Usage: "how many at most; 0: all"}, &cli.BoolFlag{Name: jsonFlag, Usage: "one JSON object a line"}}),
				Action: withLetters(listLetters),
			},
			{
				Name: "show", Usage: "Show an entry with its payload, as JSON", ArgsUsage: "ID", Flags: []cli.Flag{path},
				Action: withLetters(showLetter),
			},
			{
				Name: "replay", Usage: "Deliver entries again, through the output of a configuration; what is delivered is removed", ArgsUsage: "[ID...]",
				Flags: slices.Concat(chosen, []cli.Flag{
					&cli.StringFlag{Name: configFlag, Aliases: []string{"c"}, Required: true, Usage: "the configuration `FILE` of the run or of the stream"},
					&cli.StringSliceFlag{Name: "resources", Aliases: []string{"r"}, Usage: "a `FILE` of shared resources that it needs"},
					&cli.BoolFlag{Name: processorsFlag, Usage: "send them through the processors of the configuration first: for events that were kept before any had changed them"},
				}),
				Action: withLetters(replayLetters),
			},
			{
				Name: "purge", Usage: "Remove entries for good", ArgsUsage: "[ID...]",
				Flags:  slices.Concat(chosen, []cli.Flag{&cli.BoolFlag{Name: allFlag, Usage: "all of them, or all that the other flags choose"}}),
				Action: withLetters(purgeLetters),
			},
		},
	}
}

func withLetters(f func(c *cli.Context, s *deadletter.Store) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		s, err := deadletter.Open(c.Context, c.String(pathFlag), false)
		if err != nil {
			return fmt.Errorf("%w; --path names the file", err)
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return f(c, s)
	}
}

// chosenLetters returns what the flags and the arguments choose.
func chosenLetters(c *cli.Context) (deadletter.Filter, error) {
	f := deadletter.Filter{Table: c.String(tableFlag), Kind: c.String(kindFlag)}
	if c.IsSet(pipelineFlag) {
		pipeline := c.String(pipelineFlag)
		f.Pipeline = &pipeline
	}
	for _, arg := range c.Args().Slice() {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return f, fmt.Errorf("%q is not the ID of an entry; `deltaforge dlq list` shows them", arg)
		}
		f.IDs = append(f.IDs, id)
	}
	return f, nil
}

func listLetters(c *cli.Context, s *deadletter.Store) error {
	f, err := chosenLetters(c)
	if err != nil {
		return err
	}
	f.Limit = c.Int(limitFlag)
	entries, err := s.List(c.Context, f, false)
	if err != nil {
		return err
	}
	if c.Bool(jsonFlag) {
		for _, e := range entries {
			if err := json.NewEncoder(c.App.Writer).Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tPIPELINE\tTABLE\tOP\tEVENT\tKIND\tATTEMPTS\tLAST\tBYTES\tERROR")
	for _, e := range entries {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", e.ID, e.Pipeline, e.Table, e.Op, e.EventID, e.Kind, e.Attempts,
			e.LastAt.Format(time.RFC3339), e.Bytes, e.Error)
	}
	return w.Flush()
}

// shownLetter is an entry for a person.
type shownLetter struct {
	deadletter.Entry
	Text *string `json:"payload,omitempty"`
	Data []byte  `json:"payload_base64,omitempty"`
}

func showLetter(c *cli.Context, s *deadletter.Store) error {
	f, err := chosenLetters(c)
	if err != nil {
		return err
	}
	if len(f.IDs) != 1 {
		return fmt.Errorf("dlq show: want one ID, got %d arguments; `deltaforge dlq list` shows them", c.NArg())
	}
	e, err := s.Get(c.Context, f.IDs[0])
	if err != nil {
		return err
	}
	out := shownLetter{Entry: e}
	if utf8.Valid(e.Payload) {
		text := string(e.Payload)
		out.Text = &text
	} else {
		out.Data = e.Payload
	}
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

func replayLetters(c *cli.Context, s *deadletter.Store) error {
	f, err := chosenLetters(c)
	if err != nil {
		return err
	}
	r := deadletter.Replay{Processors: c.Bool(processorsFlag), Log: slog.New(slog.NewTextHandler(errorWriter(c), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if r.Config, err = os.ReadFile(c.String(configFlag)); err != nil {
		return err
	}
	for _, name := range c.StringSlice("resources") {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		r.Resources = append(r.Resources, text)
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	out, err := r.Run(ctx, s, f)
	fmt.Fprintf(c.App.Writer, "%d delivered, %d failed again\n", out.Delivered, out.Failed)
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted; what is not delivered stays")
	case err == nil && out.Failed > 0:
		return cli.Exit("`deltaforge dlq list` says why", 1)
	}
	return err
}

func errorWriter(c *cli.Context) io.Writer {
	if c.App.ErrWriter != nil {
		return c.App.ErrWriter
	}
	return os.Stderr
}

func purgeLetters(c *cli.Context, s *deadletter.Store) error {
	f, err := chosenLetters(c)
	if err != nil {
		return err
	}
	if len(f.IDs) == 0 && !c.Bool(allFlag) {
		return errors.New("dlq purge: say which, by ID, or --all; what is purged is gone for good")
	}
	n, err := s.Purge(c.Context, f)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%d removed\n", n)
	return nil
}
