package chunk

import (
	"context"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// Aside reads rows that are not put into the stream.
type Aside struct{ Config }

var _ change.Rows = (*Aside)(nil)

// OpenRows implements change.Rows. What is known of tables and of the log is not shared with the chunks of a snapshot: it goes with the
// connection.
func (a *Aside) OpenRows() change.RowReader {
	return &snapshot.Rereader{
		Open: func(ctx context.Context) (snapshot.Reader, error) { return New(a.Config).Open(ctx) },
		After: func(events []*change.Event) (checkpoint.Position, error) {
			return placeAfter(events, !a.NoGTIDs)
		},
	}
}

// placeAfter returns a place that only a view reaches that sees the transactions of events. GTIDs mean the same on every server of a topology;
// a place in a file is taken where there are none.
func placeAfter(events []*change.Event, gtids bool) (*gtid.Position, error) {
	p := &gtid.Position{HasGTIDs: gtids}
	for _, ev := range events {
		if !gtids || ev.Tx.GTID == "" {
			p = p.At(gtid.Position{File: ev.File, Pos: ev.Pos + 1}) // inside of its transaction, which is visible whole
			continue
		}
		if id, err := gtid.ParseID(ev.Tx.GTID); err == nil {
			p = p.AfterGTID(&id, gtid.Position{})
			continue
		}
		maria, err := gtid.ParseMariaID(ev.Tx.GTID)
		if err != nil {
			return nil, err
		}
		p = p.AfterMariaGTID(maria, gtid.Position{})
	}
	return p, nil
}
