package main

import (
	"bytes"
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
	path := &cli.StringFlag{
		Name: pathFlag, Aliases: []string{"p"}, Value: "deltaforge-checkpoints.db",
		Usage: "the file of the store: `checkpoint.path` of the source",
	}
	return &cli.Command{
		Name:  "checkpoint",
		Usage: "Inspect and repair the saved positions",
		Description: "Works on the embedded store, or on the file of a deltaforge_checkpoint cache. A position in another " +
			"cache is under the source's key there, as one JSON object.",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "List the saved positions", Flags: []cli.Flag{path},
				Action: withStore(listCheckpoints),
			},
			{
				Name: "show", Usage: "Show one saved position as JSON", ArgsUsage: "KEY", Flags: []cli.Flag{path},
				Action: withStore(withKey(showCheckpoint)),
			},
			{
				Name: "reset", Usage: "Forget a saved position, so that the source starts as configured; the source must be stopped",
				ArgsUsage: "KEY", Flags: []cli.Flag{path}, Action: withStore(withKey(resetCheckpoint)),
			},
			{
				Name: "reset-schema",
				Usage: "Forget the schema history of a MySQL or MariaDB source and keep its position: the next start takes the tables as they " +
					"are then; the source must be stopped",
				ArgsUsage: "KEY", Flags: []cli.Flag{path}, Action: withStore(withKey(resetSchema)),
			},
		},
	}
}

type storeAction func(c *cli.Context, s *checkpoint.SQLite) error

func withStore(f storeAction) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		s, err := checkpoint.OpenExistingSQLite(c.Context, c.String(pathFlag))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return f(c, s)
	}
}

func withKey(f func(c *cli.Context, s *checkpoint.SQLite, key string) error) storeAction {
	return func(c *cli.Context, s *checkpoint.SQLite) error {
		if c.NArg() != 1 {
			return fmt.Errorf("checkpoint %s: want one KEY, got %d arguments; `deltaforge checkpoint list` shows the keys",
				c.Command.Name, c.NArg())
		}
		err := f(c, s, c.Args().First())
		if errors.Is(err, checkpoint.ErrNotFound) {
			return fmt.Errorf("key %q: %w; `deltaforge checkpoint list` shows the keys", c.Args().First(), err)
		}
		return err
	}
}

func listCheckpoints(c *cli.Context, s *checkpoint.SQLite) error {
	keys, err := s.Keys(c.Context)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintln(w, "KEY\tKIND\tPOSITION\tSAVED\tIN USE"); err != nil {
		return err
	}
	for _, key := range keys {
		if err := listOne(c, s, w, key); err != nil {
			return err
		}
	}
	return w.Flush()
}

func listOne(c *cli.Context, s *checkpoint.SQLite, w io.Writer, key string) error {
	data, err := s.Peek(c.Context, key)
	if err != nil {
		return err
	}
	used, err := s.InUse(key)
	if err != nil {
		return err
	}
	if checkpoint.IsSchemaKey(key) {
		_, err = fmt.Fprintf(w, "%s\tschema history\t%d bytes\t\t%t\n", key, len(data), used)
		return err
	}
	if checkpoint.IsSnapshotKey(key) {
		_, err = fmt.Fprintf(w, "%s\tsnapshot\t%s\t\t%t\n", key, snapshotSummary(data), used)
		return err
	}
	r, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		_, err = fmt.Fprintf(w, "%s\t?\t%v\t\t%t\n", key, err, used)
		return err
	}
	_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\n", key, r.Kind, r.Token(), r.SavedAt.Format(time.RFC3339), used)
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

func showCheckpoint(c *cli.Context, s *checkpoint.SQLite, key string) error {
	data, err := s.Peek(c.Context, key)
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

func resetCheckpoint(c *cli.Context, s *checkpoint.SQLite, key string) error {
	data, err := s.Get(c.Context, key) // locks the key, so that no source starts meanwhile
	switch {
	case errors.Is(err, checkpoint.ErrNotFound), errors.Is(err, checkpoint.ErrLocked):
		return err
	case err != nil:
		data = []byte(err.Error()) // this is the way out
	}
	if err := checkpoint.Forget(c.Context, s, key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "Forgotten: %s\n%s\n", key, data)
	return err
}

func resetSchema(c *cli.Context, s *checkpoint.SQLite, key string) error {
	data, err := s.Get(c.Context, key) // locks the key too
	if err != nil {
		return err
	}
	r, err := checkpoint.UnmarshalRecord(data)
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	known, err := checkpoint.ForgetHistory(c.Context, s, key)
	if err != nil {
		return err
	}
	if !known && !r.History {
		return fmt.Errorf("key %q has no schema history: %w", key, checkpoint.ErrNotFound)
	}
	r.History = false
	if err := checkpoint.SaveRecord(c.Context, s, key, r); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "Forgotten: the schema history of %s. The next start takes the tables as they are then; rows that were "+
		"written before a later change of their table will be an error.\n", key)
	return err
}
