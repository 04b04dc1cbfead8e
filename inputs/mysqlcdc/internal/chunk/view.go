package chunk

import (
	"sync/atomic"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// view is what the transaction of a chunk sees. What it surely sees is known in one of three ways.
type view struct {
	source *Source
	// server is the one that places are of.
	server string
	// executed are the transactions that MySQL says are committed in its engines.
	executed *gtid.Set
	// domains are the last transactions that MariaDB has committed in its engines; nil where that is not asked.
	domains *gtid.Position
	// before is a place before which all is committed in the engines; nil where none is known.
	before *gtid.Position
	// high is a place before which everything lies that is visible; nil before it is known.
	high atomic.Pointer[gtid.Position]
}

var _ snapshot.View = (*view)(nil)

// Sees implements snapshot.View.
func (v *view) Sees(tx *change.Tx) bool {
	switch {
	case tx.XA:
		return false
	case v.executed != nil:
		id, err := gtid.ParseID(tx.GTID)
		return err == nil && v.executed.Has(id)
	case v.before != nil && tx.File != "":
		start := gtid.Position{File: tx.File, Pos: tx.Pos + 1} // a transaction that starts there is not before it
		return v.streamed() && v.before.Reaches(&start)
	case v.domains != nil:
		id, err := gtid.ParseMariaID(tx.GTID)
		return err == nil && v.domains.HasMaria(id)
	default:
		return false
	}
}

// Reached implements snapshot.View.
func (v *view) Reached(at checkpoint.Position) bool {
	p, ok := at.(*gtid.Position)
	high := v.high.Load()
	return ok && high != nil && v.streamed() && p.Reaches(high)
}

// streamed reports whether the log that is streamed now is that of the server whose places the view has.
func (v *view) streamed() bool {
	identity := v.source.stream.Load()
	return identity != nil && *identity == v.server
}
