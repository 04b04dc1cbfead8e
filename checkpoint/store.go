package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"strings"
	"syscall"
	"time"
)

// The three answers that are not a position. A failed read is never taken for "start from scratch".
var (
	// ErrNotFound means that nothing has been saved under the key.
	ErrNotFound = errors.New("no checkpoint saved")
	// ErrIncompatible means that there is a record, written by another version or for another kind of source.
	ErrIncompatible = errors.New("incompatible checkpoint")
	// ErrBroken means that the record cannot be read, or that the store cannot.
	ErrBroken = errors.New("broken checkpoint")
)

// Store keeps one record per key. Implementations return ErrNotFound (and nothing else) for a key that was never
// saved. Methods may be called from any goroutine.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Set(ctx context.Context, key string, value []byte) error
}

// schemaSuffix ends the keys of schema histories. A key with a slash is a folder to a store of files; histories were saved under one once.
const (
	schemaSuffix    = ".schema_history"
	oldSchemaSuffix = "/schema"
)

// snapshotSuffix ends the keys of the progress of snapshots.
const snapshotSuffix = ".snapshot"

// SnapshotKey returns the key under which the progress of snapshots that belongs to a position is kept.
func SnapshotKey(key string) string { return key + snapshotSuffix }

// IsSnapshotKey reports whether a key is one that SnapshotKey returns.
func IsSnapshotKey(key string) bool { return strings.HasSuffix(key, snapshotSuffix) }

// SchemaKey returns the key under which the schema history that belongs to a position is kept.
func SchemaKey(key string) string { return key + schemaSuffix }

// OldSchemaKey returns the key under which earlier versions kept the schema history. It is read if one of those versions wrote the record of
// the position.
func OldSchemaKey(key string) string { return key + oldSchemaSuffix }

// IsSchemaKey reports whether a key is one that SchemaKey or OldSchemaKey returns.
func IsSchemaKey(key string) bool {
	return strings.HasSuffix(key, schemaSuffix) || strings.HasSuffix(key, oldSchemaSuffix)
}

const (
	// recordVersion is the version of the saved form. A reader refuses a greater one.
	recordVersion = 3
	// sumVersion is the first version whose records have a checksum and say whether a history belongs to them.
	sumVersion = 2
)

// Record is what is saved: a position, the kind of source that made it, and when.
type Record struct {
	Version int `json:"version"`
	// Kind names the component that wrote the record, "mysql" or "postgresql".
	Kind string `json:"kind"`
	// Source is Token.Source.
	Source string `json:"source,omitempty"`
	// Position is Token.Commit in its text form.
	Position string `json:"position"`
	// Sent is Token.Sent.
	Sent uint64 `json:"sent,omitempty"`
	// History says that a schema history belongs to the position, under SchemaKey.
	History bool `json:"history,omitempty"`
	// Snapshot says that the progress of snapshots belongs to the position, under SnapshotKey.
	Snapshot bool `json:"snapshot,omitempty"`
	// SavedAt is the time of the save, UTC.
	SavedAt time.Time `json:"saved_at"`
	// DeliveredTo is a time before which everything committed is delivered. When it is zero, SavedAt is the best guess.
	DeliveredTo time.Time `json:"delivered_to,omitzero"`
	// Sum is a checksum of all other fields.
	Sum string `json:"sum,omitempty"`
}

// NewRecord returns the record of a token.
func NewRecord(kind string, tok Token, now time.Time) (Record, error) {
	if tok.Commit == nil {
		return Record{}, errors.New("a checkpoint needs a commit position")
	}
	return Record{
		Version: sumVersion, Kind: kind, Source: tok.Source, Position: tok.Commit.String(), Sent: tok.Sent, SavedAt: now.UTC(),
	}, nil
}

// Token returns the position of the record.
func (r Record) Token() Token {
	return Token{Source: r.Source, Commit: Text(r.Position), Sent: r.Sent}
}

// checksum returns the Sum that the record ought to have.
func (r Record) checksum() (string, error) {
	r.Sum = ""
	data, err := json.Marshal(r)
	return fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))), err
}

// Marshal returns the saved form of a record.
func (r Record) Marshal() (data []byte, err error) {
	if r.Version = sumVersion; r.Snapshot {
		r.Version = recordVersion // which an earlier version would read over
	}
	if r.Sum, err = r.checksum(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// UnmarshalRecord reads a saved record. Errors wrap ErrBroken or ErrIncompatible.
func UnmarshalRecord(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("%w: not a checkpoint record: %w", ErrBroken, err)
	}
	if r.Version > recordVersion || r.Version < 1 {
		return Record{}, fmt.Errorf("%w: record version %d, this version of deltaforge reads %d", ErrIncompatible,
			r.Version, recordVersion)
	}
	if r.Version >= sumVersion || r.Sum != "" {
		if sum, err := r.checksum(); err != nil || sum != r.Sum {
			return Record{}, fmt.Errorf("%w: the record's checksum is %q and ought to be %q: it was damaged, or changed by hand; restore it from a backup", ErrBroken,
				r.Sum, sum)
		}
	}
	if r.Position == "" || r.Kind == "" {
		return Record{}, fmt.Errorf("%w: record without position or kind", ErrBroken)
	}
	return r, nil
}

// LoadRecord reads the record saved under key. Errors wrap ErrNotFound, ErrIncompatible, ErrLocked or ErrBroken and
// name the key.
func LoadRecord(ctx context.Context, s Store, key, kind string) (Record, error) {
	data, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Record{}, fmt.Errorf("key %q: %w", key, ErrNotFound)
	}
	if errors.Is(err, ErrLocked) {
		return Record{}, err // the record may be as good as ever
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: reading key %q: %w", ErrBroken, key, err)
	}
	r, err := UnmarshalRecord(data)
	if err != nil {
		return Record{}, fmt.Errorf("key %q: %w", key, err)
	}
	if r.Kind != kind {
		return Record{}, fmt.Errorf("%w: key %q belongs to a %s source, this one is %s: choose another checkpoint key",
			ErrIncompatible, key, r.Kind, kind)
	}
	return r, nil
}

// LoadHistory reads the schema history that belongs to a record; nil if there is none. It also returns the key under which it looked. Errors
// wrap ErrLocked or ErrBroken and name the key.
func LoadHistory(ctx context.Context, s Store, key string, r Record) (history []byte, at string, err error) {
	at = SchemaKey(key)
	history, err = s.Get(ctx, at)
	if errors.Is(err, ErrNotFound) && r.Version < sumVersion {
		at = OldSchemaKey(key)
		if history, err = s.Get(ctx, at); err != nil && notThere(err) {
			err = ErrNotFound
		}
	}
	switch {
	case err == nil:
		return history, at, nil
	case errors.Is(err, ErrNotFound) && r.History:
		return nil, at, fmt.Errorf("%w: %w: a schema history belongs to the position under key %q, and there is none under key %q: restore it from a backup, "+
			"or, to take the tables as they are now, `deltaforge checkpoint reset-schema %s`", ErrBroken, ErrLost, key, at, key)
	case errors.Is(err, ErrNotFound):
		return nil, at, nil
	case errors.Is(err, ErrLocked):
		return nil, at, err
	default:
		return nil, at, fmt.Errorf("%w: reading key %q: %w", ErrBroken, at, err)
	}
}

// LoadSnapshot reads the progress of snapshots that belongs to a record; nil if there is none. Errors wrap ErrLocked or ErrBroken and name the
// key.
func LoadSnapshot(ctx context.Context, s Store, key string, r Record) ([]byte, error) {
	if !r.Snapshot {
		return nil, nil
	}
	at := SnapshotKey(key)
	progress, err := s.Get(ctx, at)
	switch {
	case err == nil:
		return progress, nil
	case errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("%w: %w: the progress of snapshots belongs to the position under key %q, and there is none under key %q: restore it from a "+
			"backup, or begin anew with `deltaforge checkpoint reset %s`", ErrBroken, ErrLost, key, at, key)
	case errors.Is(err, ErrLocked):
		return nil, err
	default:
		return nil, fmt.Errorf("%w: reading key %q: %w", ErrBroken, at, err)
	}
}

// Load is LoadRecord for the token alone.
func Load(ctx context.Context, s Store, key, kind string) (Token, error) {
	r, err := LoadRecord(ctx, s, key, kind)
	if err != nil {
		return Token{}, err
	}
	return r.Token(), nil
}

// SaveRecord writes a record under key.
func SaveRecord(ctx context.Context, s Store, key string, r Record) error {
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := s.Set(ctx, key, data); err != nil {
		return fmt.Errorf("saving position %s under key %q: %w", r.Token(), key, err)
	}
	return nil
}

// Save writes the token under key.
func Save(ctx context.Context, s Store, key, kind string, tok Token, now time.Time) error {
	r, err := NewRecord(kind, tok, now)
	if err != nil {
		return err
	}
	return SaveRecord(ctx, s, key, r)
}

// Eraser is a store that can forget. Delete returns nil or ErrNotFound for a key that is not there.
type Eraser interface {
	Delete(ctx context.Context, key string) error
}

// Forget removes a position and what belongs to it. A missing one is not an error.
func Forget(ctx context.Context, s Eraser, key string) error {
	// What the tables were like at the position is of no use without it.
	if err := ForgetHistory(ctx, s, key); err != nil {
		return err
	}
	return forget(ctx, s, SnapshotKey(key), key)
}

// ForgetHistory removes the schema history that belongs to a position. A missing one is not an error.
func ForgetHistory(ctx context.Context, s Eraser, key string) error {
	return forget(ctx, s, SchemaKey(key), OldSchemaKey(key))
}

func forget(ctx context.Context, s Eraser, keys ...string) error {
	for _, k := range keys {
		if err := s.Delete(ctx, k); err != nil && !errors.Is(err, ErrNotFound) && !notThere(err) {
			return err
		}
	}
	return nil
}

// notThere reports whether a store of files says that a key cannot exist, because another key is a file where this one needs a folder.
func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
