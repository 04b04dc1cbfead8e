package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// schemaSuffix ends the keys of schema histories.
const schemaSuffix = "/schema"

// SchemaKey returns the key under which the schema history that belongs to a position is kept.
func SchemaKey(key string) string { return key + schemaSuffix }

// IsSchemaKey reports whether a key is one that SchemaKey returns.
func IsSchemaKey(key string) bool { return strings.HasSuffix(key, schemaSuffix) }

// recordVersion is the version of the saved form. A reader refuses a greater one.
const recordVersion = 1

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
	// SavedAt is the time of the save, UTC.
	SavedAt time.Time `json:"saved_at"`
}

// Token returns the position of the record.
func (r Record) Token() Token {
	return Token{Source: r.Source, Commit: Text(r.Position), Sent: r.Sent}
}

// MarshalRecord returns the saved form of a token.
func MarshalRecord(kind string, tok Token, now time.Time) ([]byte, error) {
	if tok.Commit == nil {
		return nil, errors.New("a checkpoint needs a commit position")
	}
	return json.Marshal(Record{
		Version: recordVersion, Kind: kind, Source: tok.Source, Position: tok.Commit.String(), Sent: tok.Sent,
		SavedAt: now.UTC(),
	})
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
	if r.Position == "" || r.Kind == "" {
		return Record{}, fmt.Errorf("%w: record without position or kind", ErrBroken)
	}
	return r, nil
}

// Load reads the token saved under key. Errors wrap ErrNotFound, ErrIncompatible, ErrLocked or ErrBroken and
// name the key.
func Load(ctx context.Context, s Store, key, kind string) (Token, error) {
	data, err := s.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Token{}, fmt.Errorf("key %q: %w", key, ErrNotFound)
	}
	if errors.Is(err, ErrLocked) {
		return Token{}, err // the record may be as good as ever
	}
	if err != nil {
		return Token{}, fmt.Errorf("%w: reading key %q: %w", ErrBroken, key, err)
	}
	r, err := UnmarshalRecord(data)
	if err != nil {
		return Token{}, fmt.Errorf("key %q: %w", key, err)
	}
	if r.Kind != kind {
		return Token{}, fmt.Errorf("%w: key %q belongs to a %s source, this one is %s: choose another checkpoint key",
			ErrIncompatible, key, r.Kind, kind)
	}
	return r.Token(), nil
}

// Save writes the token under key.
func Save(ctx context.Context, s Store, key, kind string, tok Token, now time.Time) error {
	data, err := MarshalRecord(kind, tok, now)
	if err != nil {
		return err
	}
	if err := s.Set(ctx, key, data); err != nil {
		return fmt.Errorf("saving position %s under key %q: %w", tok, key, err)
	}
	return nil
}
