package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

const (
	urlFlag    = "url"
	sourceFlag = "source"
	whereFlag  = "where"
)

// snapshotCommand asks the control plane of a running process to load tables.
func snapshotCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: urlFlag, Value: "http://127.0.0.1:8080", EnvVars: []string{"DELTAFORGE_URL"}, Usage: "where the control plane is; DELTAFORGE_CONTROL_TOKEN holds its token, if it wants one"},
		&cli.StringFlag{Name: sourceFlag, Usage: "the `name` of the source, if the pipeline has several"},
	}
	where := &cli.StringFlag{Name: whereFlag, Usage: "a condition in SQL: only the rows that meet it are loaded"}
	sub := func(action, usage, args string, more ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: action, Usage: usage, ArgsUsage: args, Flags: slices.Concat(flags, more),
			Action: func(c *cli.Context) error { return askSnapshot(c, action) },
		}
	}
	return &cli.Command{
		Name:  "snapshot",
		Usage: "Load tables of a running pipeline, and see how far that is",
		Description: "Asks the control plane of a process that runs `deltaforge streams`. A table is loaded while the changes go on; its rows come as events with " +
			"`op` `r`. Beside a process that runs `deltaforge run`, rows in the signal table of the source do the same.",
		Subcommands: []*cli.Command{
			sub("start", "Load tables anew; without names: all that the source loads by itself", "PIPELINE [TABLE...]", where),
			sub("pause", "Read no further rows, until `resume`", "PIPELINE"),
			sub("resume", "Go on after a pause", "PIPELINE"),
			sub("stop", "Give up the loading of tables; without names: of all", "PIPELINE [TABLE...]"),
			sub("status", "Show how far each table is", "PIPELINE"),
		},
	}
}

// askSnapshot sends a request to the control plane, and shows how the snapshots are.
func askSnapshot(c *cli.Context, action string) error {
	args := c.Args().Slice()
	if len(args) == 0 || len(args) > 1 && action != "start" && action != "stop" {
		return fmt.Errorf("snapshot %s: want %s, got %d arguments", action, c.Command.ArgsUsage, len(args))
	}
	address := strings.TrimRight(c.String(urlFlag), "/") + "/streams/" + url.PathEscape(args[0]) + "/snapshot"
	method, body := http.MethodGet, []byte(nil)
	if action == "status" {
		address += "?source=" + url.QueryEscape(c.String(sourceFlag))
	} else {
		method = http.MethodPost
		var err error
		if body, err = json.Marshal(struct {
			contract.SnapshotRequest
			Source string `json:"source,omitempty"`
		}{contract.SnapshotRequest{Action: action, Tables: args[1:], Where: c.String(whereFlag)}, c.String(sourceFlag)}); err != nil {
			return err
		}
	}
	answer, err := callControl(c, method, address, body)
	if err != nil {
		return err
	}
	var got struct {
		Sources map[string]contract.SnapshotStatus `json:"sources"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return fmt.Errorf("%s answers something else than a control plane does: %w", c.String(urlFlag), err)
	}
	return showSnapshots(c.App.Writer, got.Sources)
}

// callTimeout bounds a request to the control plane.
const callTimeout = 30 * time.Second

// callControl sends a request to a control plane. What it refuses is an error with its words.
func callControl(c *cli.Context, method, address string, body []byte) (answer []byte, err error) {
	r, err := http.NewRequestWithContext(c.Context, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token := os.Getenv("DELTAFORGE_CONTROL_TOKEN"); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: callTimeout}
	resp, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("asking the control plane: %w: --url says where it is, and `deltaforge streams` starts one", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if answer, err = io.ReadAll(io.LimitReader(resp.Body, 64<<20)); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the control plane answers %s: %s", resp.Status, strings.TrimSpace(string(answer)))
	}
	return answer, nil
}

// showSnapshots prints a line for each table.
func showSnapshots(out io.Writer, sources map[string]contract.SnapshotStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, "SOURCE\tTABLE\tSTATE\tROWS\tOF ABOUT\tDONE\tROWS/S\tPROBLEM"); err != nil {
		return err
	}
	names := make([]string, 0, len(sources))
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, t := range sources[name].Tables {
			state, about := t.State, "?"
			if sources[name].Paused && (state == "loading" || state == "waiting" || state == "pruning") {
				state += ", paused"
			}
			if t.Estimate >= 0 {
				about = fmt.Sprint(t.Estimate)
			}
			if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%.0f %%\t%.0f\t%s\n", name, t.Table, state, t.Rows, about, 100*t.Ratio,
				float64(t.Rows)/max(t.Seconds, 1e-3), t.Problem); err != nil {
				return err
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, name := range names {
		if l := sources[name].Lost; l != nil {
			if _, err := fmt.Fprintf(out, "%s: the position %s was lost at %s, and reading began anew at %s. Rows that were deleted in between stay at the consumers. %s\n", name,
				cmp.Or(l.From, "?"), l.At.Format(time.RFC3339), cmp.Or(l.To, "?"), l.Why); err != nil {
				return err
			}
		}
	}
	return nil
}
