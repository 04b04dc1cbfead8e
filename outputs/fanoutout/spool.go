package fanoutout

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/sqlitefile"
	"github.com/deltaforge/deltaforge/internal/stored"
)

// errFull means that an output's part of the spool has no room.
var errFull = errors.New("the spool is full")

const spoolSchema = `CREATE TABLE IF NOT EXISTS batches (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	owner  TEXT NOT NULL,
	output TEXT NOT NULL,
	events INTEGER NOT NULL,
	bytes  INTEGER NOT NULL,
	data   BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS batches_output ON batches (owner, output, id);`

// spool is a file with the batches that outputs have still to deliver, for each output in its order. Its methods may be called from any
// goroutine.
type spool struct {
	db    *sql.DB
	path  string
	owner string // the pipeline: pipelines may share a file
}

func openSpool(ctx context.Context, path, owner string) (*spool, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening the spool %s: %w", path, err)
	}
	db, err := sqlitefile.Make(ctx, full, true, spoolSchema)
	if err != nil {
		return nil, fmt.Errorf("opening the spool %s: %w", path, err)
	}
	return &spool{db: db, path: path, owner: owner}, nil
}

func (s *spool) wrap(err error) error {
	if err == nil || errors.Is(err, errFull) {
		return err
	}
	return fmt.Errorf("spool %s: %w", s.path, err)
}

// encode returns a batch as it is kept.
func encode(batch service.MessageBatch) ([]byte, error) {
	all := make([]stored.Message, len(batch))
	for i, m := range batch {
		var err error
		if all[i], _, err = stored.Of(m); err != nil {
			return nil, fmt.Errorf("message %d of the batch: %w", i, err)
		}
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(all)
	return b.Bytes(), err
}

func decode(data []byte) (service.MessageBatch, error) {
	var all []stored.Message
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&all); err != nil {
		return nil, err
	}
	batch := make(service.MessageBatch, len(all))
	for i, s := range all {
		var err error
		if batch[i], err = s.Restore(false); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// put keeps a batch for outputs, all or none, and returns its place for each. Where an output has no room, its oldest batches are dropped
// with drop, and counted; without it put returns errFull.
func (s *spool) put(ctx context.Context, outputs []string, batch service.MessageBatch, limit int64, drop bool) (ids map[string]int64, dropped map[string]int, err error) {
	data, err := encode(batch)
	if err != nil {
		return nil, nil, err
	}
	ids, dropped = map[string]int64{}, map[string]int{}
	err = sqlitefile.InTx(ctx, s.db, func(tx *sql.Tx) error {
		for _, output := range outputs {
			r, err := tx.ExecContext(ctx, `INSERT INTO batches (owner, output, events, bytes, data) VALUES (?, ?, ?, ?, ?)`, s.owner, output, len(batch), len(data), data)
			if err != nil {
				return err
			}
			if ids[output], err = r.LastInsertId(); err != nil {
				return err
			}
			if dropped[output], err = s.bound(ctx, tx, output, limit, drop); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, s.wrap(err)
	}
	return ids, dropped, nil
}

// bound makes room for the newest batch of an output, which stays.
func (s *spool) bound(ctx context.Context, tx *sql.Tx, output string, limit int64, drop bool) (dropped int, err error) {
	for {
		var size, n int64
		if err := tx.QueryRowContext(ctx, `SELECT coalesce(sum(bytes), 0), count(*) FROM batches WHERE owner = ? AND output = ?`, s.owner, output).
			Scan(&size, &n); err != nil {
			return 0, err
		}
		if size <= limit || n <= 1 {
			return dropped, nil
		}
		if !drop {
			return 0, fmt.Errorf("%w: output %s has %d bytes in %s to deliver, and max_bytes is %d", errFull, output, size, s.path, limit)
		}
		var events int
		if err := tx.QueryRowContext(ctx, `DELETE FROM batches WHERE id = (SELECT min(id) FROM batches WHERE owner = ? AND output = ?) RETURNING events`,
			s.owner, output).Scan(&events); err != nil {
			return 0, err
		}
		dropped += events
	}
}

// first returns the oldest batch of an output; id is 0 when there is none.
func (s *spool) first(ctx context.Context, output string) (id int64, batch service.MessageBatch, err error) {
	var data []byte
	err = s.db.QueryRowContext(ctx, `SELECT id, data FROM batches WHERE owner = ? AND output = ? ORDER BY id LIMIT 1`, s.owner, output).Scan(&id, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	if err == nil {
		batch, err = decode(data)
	}
	return id, batch, s.wrap(err)
}

// done removes a batch that was delivered.
func (s *spool) done(ctx context.Context, id int64) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM batches WHERE id = ?`, id)
	return s.wrap(err)
}

// waiting returns what an output has still to deliver.
func (s *spool) waiting(ctx context.Context, output string) (events, size int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT coalesce(sum(events), 0), coalesce(sum(bytes), 0) FROM batches WHERE owner = ? AND output = ?`, s.owner, output).
		Scan(&events, &size)
	return events, size, s.wrap(err)
}

func (s *spool) close() error { return s.db.Close() }
