// Package fault classifies the errors of sources: what kind they are, which table they are about, and whether a position is lost.
package fault

import (
	"context"
	"errors"
	"net"
	"os"
)

// ErrPositionLost means that the log no longer holds the saved position. Skipping ahead would lose rows, so a person
// decides between a new snapshot and a restored log; until then the source only looks, now and then, whether the
// position is back.
var ErrPositionLost = errors.New("position lost")

// Kind classifies an error of a source for source_errors_total.
type Kind string

// The kinds, each a value of the label "kind".
const (
	KindAuth         Kind = "auth"
	KindPermission   Kind = "permission"
	KindConnect      Kind = "connect"
	KindTimeout      Kind = "timeout"
	KindProtocol     Kind = "protocol"
	KindSchema       Kind = "schema"
	KindPositionLost Kind = "position_lost"
	KindDecode       Kind = "decode"
	KindOther        Kind = "other"
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{
		KindAuth, KindPermission, KindConnect, KindTimeout, KindProtocol, KindSchema, KindPositionLost, KindDecode, KindOther,
	}
}

type kindError struct {
	kind Kind
	err  error
}

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// WithKind marks err with a kind. The outermost mark counts. A nil err stays nil.
func WithKind(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{kind: kind, err: err}
}

type tableError struct {
	table string
	err   error
}

func (e *tableError) Error() string { return e.err.Error() }
func (e *tableError) Unwrap() error { return e.err }

// WithTable notes which table an error is about, for the log. A nil err stays nil.
func WithTable(table string, err error) error {
	if err == nil {
		return nil
	}
	return &tableError{table: table, err: err}
}

// TableOf returns the table that an error is about; empty: none.
func TableOf(err error) string {
	if t, ok := errors.AsType[*tableError](err); ok {
		return t.table
	}
	return ""
}

// OrKind marks err with a kind unless it has a mark.
func OrKind(kind Kind, err error) error {
	if _, ok := errors.AsType[*kindError](err); ok {
		return err
	}
	return WithKind(kind, err)
}

// KindOf returns the kind of an error: position_lost for ErrPositionLost, else its mark, else what its type tells.
func KindOf(err error) Kind {
	var k *kindError
	var n net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, ErrPositionLost):
		return KindPositionLost
	case errors.As(err, &k):
		return k.kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &n) && n.Timeout():
		return KindTimeout
	case errors.As(err, &op):
		return KindConnect
	default:
		return KindOther
	}
}
