package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/checkpoint"
	contract "github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

const pathFlag = "path"

// checkpointCommand inspects and repairs the positions in an embedded checkpoint store.
func checkpointCommand() *cli.Command {
	return &cli.Command{
		Name:  "checkpoint",
		Usage: "Inspect and repair the saved positions",
		Description: "Without --config it works on the file of an embedded store, or of a deltaforge_checkpoint cache. With --config it looks where the " +
			"source of a configuration keeps its position: in a file, in any cache, or in the sink (exactly_once). A reset on a server or in a sink does not wait " +
			"for the source to be stopped: a source that still runs is fenced by it, and stops.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "List the saved positions", Flags: positionFlags(),
				Action: withKeeper(listCheckpoints),
			},
			{
				Name: "show", Usage: "Show one saved position as JSON", ArgsUsage: "KEY", Flags: positionFlags(),
				Action: withKeeper(withKey(showCheckpoint)),
			},
			{
				Name: "reset", Usage: "Forget a saved position, so that the source starts as configured; the source must be stopped",
				ArgsUsage: "KEY", Flags: positionFlags(), Action: withKeeper(withKey(resetCheckpoint)),
			},
			{
				Name: "reset-schema",
				Usage: "Forget the schema history of a MySQL or MariaDB source and keep its position: the next start takes the tables as they " +
					"are then; the source must be stopped",
				ArgsUsage: "KEY", Flags: positionFlags(), Action: withKeeper(withKey(resetSchema)),
			},
			importCommand(),
		},
	}
}

type keeperAction func(ctx context.Context, c *cli.Context, k keeper) error

// withKeeper calls f with the store that the flags name.
func withKeeper(f keeperAction) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		if file := c.String(configOfPositions); file != "" {
			if c.IsSet(pathFlag) {
				return fmt.Errorf("give either --%s or --%s", pathFlag, configOfPositions)
			}
			return onlyOnce(c, file, f)
		}
		s, err := checkpoint.OpenExistingSQLite(c.Context, c.String(pathFlag))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return f(c.Context, c, newFileKeeper(s))
	}
}

// onlyOnce calls f with the keeper of the source that has the key that is asked for. Without a key it is called for each source.
func onlyOnce(c *cli.Context, file string, f keeperAction) error {
	var others []string
	done := false
	err := withConfigured(c.Context, file, c.StringSlice(resourcesOf), func(ctx context.Context, key string, k keeper) error {
		if c.NArg() == 1 && !belongs(c.Args().First(), key) {
			others = append(others, key)
			return nil
		}
		done = true
		return f(ctx, c, k)
	})
	if err == nil && !done {
		err = fmt.Errorf("key %q: %w; the sources of %s have the keys %s", c.Args().First(), checkpoint.ErrNotFound, file, strings.Join(others, ", "))
	}
	return err
}

func withKey(f func(ctx context.Context, c *cli.Context, k keeper, key string) error) keeperAction {
	return func(ctx context.Context, c *cli.Context, k keeper) error {
		if c.NArg() != 1 {
			return fmt.Errorf("checkpoint %s: want one KEY, got %d arguments; `deltaforge checkpoint list` shows the keys",
				c.Command.Name, c.NArg())
		}
		err := f(ctx, c, k, c.Args().First())
		if errors.Is(err, checkpoint.ErrNotFound) {
			return fmt.Errorf("key %q: %w; `deltaforge checkpoint list` shows the keys", c.Args().First(), err)
		}
		return err
	}
}

func listCheckpoints(ctx context.Context, c *cli.Context, k keeper) error {
	keys, err := k.Keys(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, "KEY\tKIND\tPOSITION\tSAVED\tIN USE"); err != nil {
		return err
	}
	for _, key := range keys {
		if err := listOne(ctx, k, w, key); err != nil {
			return err
		}
	}
	return w.Flush()
}

func listOne(ctx context.Context, k keeper, w io.Writer, key string) error {
	data, err := k.Peek(ctx, key)
	if err != nil {
		return err
	}
	used, err := k.InUse(key)
	if err != nil {
		return err
	}
	if checkpoint.IsSchemaKey(key) {
		_, err = fmt.Fprintf(w, "%s\tschema history\t%d bytes\t\t%s\n", key, len(data), used)
		return err
	}
	if checkpoint.IsSnapshotKey(key) {
		_, err = fmt.Fprintf(w, "%s\tsnapshot\t%s\t\t%s\n", key, snapshotSummary(data), used)
		return err
	}
	r, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		_, err = fmt.Fprintf(w, "%s\t?\t%v\t\t%s\n", key, err, used)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", key, r.Kind, r.Token(), r.SavedAt.Format(time.RFC3339), used)
	return err
}

// snapshotSummary is the progress of snapshots in a few words.
func snapshotSummary(data []byte) string {
	status, err := snapshot.ReadStatus(data)
	if err != nil {
		return err.Error()
	}
	done := 0
	for _, t := range status.Tables {
		if t.State == string(snapshot.Done) {
			done++
		}
	}
	return fmt.Sprintf("%d of %d tables", done, len(status.Tables))
}

func showCheckpoint(ctx context.Context, c *cli.Context, k keeper, key string) error {
	data, err := k.Peek(ctx, key)
	if err != nil {
		return err
	}
	if checkpoint.IsSchemaKey(key) { // text, a line for each part
		_, err := fmt.Fprintf(c.App.Writer, "%s\n", bytes.TrimRight(data, "\n"))
		return err
	}
	if checkpoint.IsSnapshotKey(key) {
		status, err := snapshot.ReadStatus(data)
		if err != nil {
			return fmt.Errorf("key %q: %w\nthe record is: %s", key, err, data)
		}
		return showSnapshots(c.App.Writer, map[string]contract.SnapshotStatus{strings.TrimSuffix(key, checkpoint.SnapshotKey("")): status})
	}
	r, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		return fmt.Errorf("key %q: %w\nthe record is: %s", key, err, data)
	}
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func resetCheckpoint(ctx context.Context, c *cli.Context, k keeper, key string) error {
	data, err := k.Peek(ctx, key)
	if err != nil {
		data = []byte(err.Error()) // this is the way out
	}
	if err := k.Forget(ctx, key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "Forgotten: %s\n%s\n", key, data)
	return err
}

func resetSchema(ctx context.Context, c *cli.Context, k keeper, key string) error {
	data, err := k.Peek(ctx, key)
	if err != nil {
		return err
	}
	r, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	known, err := k.ForgetHistory(ctx, key, r)
	if err != nil {
		return err
	}
	if !known && !r.History {
		return fmt.Errorf("key %q has no schema history: %w", key, checkpoint.ErrNotFound)
	}
	_, err = fmt.Fprintf(c.App.Writer, "Forgotten: the schema history of %s. The next start takes the tables as they are then; rows that were "+
		"written before a later change of their table will be an error.\n", key)
	return err
}
