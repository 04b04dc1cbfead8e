package chunk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/internal/change"
)

// view is what a transaction sees.
type view struct {
	s    *Source
	seen visible
	// high is where everything has ended that the transaction sees.
	high lsn.LSN
}

// visible says which transactions of the stream are seen.
type visible interface {
	sees(tx *change.Tx) bool
}

// Sees implements snapshot.View.
func (v *view) Sees(tx *change.Tx) bool { return v.seen.sees(tx) }

// Reached implements snapshot.View.
func (v *view) Reached(at checkpoint.Position) bool {
	reached, err := v.s.cfg.At(at)
	return err == nil && reached >= v.high
}

// mvcc is the snapshot of a transaction on a primary. The numbers are the low halves of those that the server has, as in the stream.
type mvcc struct {
	xmax uint32   // the first number of which no transaction had ended
	xip  []uint32 // those below that had not ended, sorted
}

// parseMVCC reads the text of a pg_snapshot: xmin:xmax:xip,xip,…
func parseMVCC(text string) (*mvcc, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return nil, fmt.Errorf("snapshot %q: want xmin:xmax:xip", text)
	}
	xmax, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", text, err)
	}
	m := &mvcc{xmax: uint32(xmax)}
	if parts[2] == "" {
		return m, nil
	}
	for x := range strings.SplitSeq(parts[2], ",") {
		n, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("snapshot %q: %w", text, err)
		}
		m.xip = append(m.xip, uint32(n))
	}
	slices.Sort(m.xip)
	return m, nil
}

// sees compares as the server does: of two numbers, the one is older that is less than half a circle before the other.
func (m *mvcc) sees(tx *change.Tx) bool {
	if tx.XID == 0 || int32(tx.XID-m.xmax) >= 0 {
		return false
	}
	_, running := slices.BinarySearch(m.xip, tx.XID)
	return !running
}

// replayed is what a transaction on a standby sees: at least all that was replayed before its snapshot was taken. The snapshot itself
// does not tell: on a standby it names no transaction that runs.
type replayed struct {
	low lsn.LSN // a place between two records
}

func (p *replayed) sees(tx *change.Tx) bool {
	commit, err := lsn.Parse(tx.Position)
	return err == nil && commit != 0 && commit < p.low
}

// The sizes of the headers of a page of the log, and of the first page of a segment.
const (
	pageHeader    = 24
	segmentHeader = 40
)

// pages are the sizes of the parts of the log.
type pages struct{ page, segment lsn.LSN }

// end turns the place where the next record begins into the one where the last has ended. They differ at the end of a page: the next
// record begins after the header of the next page, where an idle server never comes.
func (p pages) end(insert lsn.LSN) lsn.LSN {
	switch {
	case p.segment != 0 && insert%p.segment == segmentHeader:
		return insert - segmentHeader
	case p.page != 0 && insert%p.page == pageHeader:
		return insert - pageHeader
	default:
		return insert
	}
}
