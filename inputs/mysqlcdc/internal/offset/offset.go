// Package offset understands what Debezium's connectors for MySQL and MariaDB save: a place in the log, and how much of the transaction there
// is delivered. Events are counted from the one that begins the transaction, and rows in the event after those.
package offset

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
)

// Offset is what a connector saves.
type Offset struct {
	File     string `json:"file"`
	Pos      uint64 `json:"pos"`
	GTIDs    string `json:"gtids"`
	Events   uint64 `json:"event"`
	Rows     uint64 `json:"row"`
	Snapshot any    `json:"snapshot"`
	Done     any    `json:"snapshot_completed"`
}

// Parse reads an offset. One of a connector that is in its snapshot is refused.
func Parse(text []byte) (o Offset, err error) {
	if err := json.Unmarshal(text, &o); err != nil {
		return o, fmt.Errorf("the offset is not one of a connector for MySQL or MariaDB: %w", err)
	}
	if o.File == "" || o.Pos == 0 {
		return o, errors.New("the offset is not one of a connector for MySQL or MariaDB: it has no file and pos")
	}
	if s := strings.ToLower(fmt.Sprint(o.Snapshot)); o.Snapshot != nil && s != "false" && fmt.Sprint(o.Done) != "true" {
		return o, errors.New("the connector was in its snapshot: let it end, or start DeltaForge without an import and let it load the tables")
	}
	o.GTIDs = strings.Join(strings.Fields(o.GTIDs), "")
	return o, nil
}

// Inside reports whether a part of a transaction may be delivered.
func (o *Offset) Inside() bool { return o.Events > 0 || o.Rows > 0 }

// Counter finds out how many rows of the transaction are delivered. It is fed with the events from the place of the offset on.
type Counter struct {
	offset Offset
	events uint64
	maps   map[uint64]*binlog.TableMap

	// Sent is the number of rows, of all tables.
	Sent uint64
}

// NewCounter returns a counter.
func NewCounter(o Offset) *Counter { return &Counter{offset: o, maps: map[uint64]*binlog.TableMap{}} }

// Done reports whether it has seen enough.
func (c *Counter) Done() bool {
	return c.events > c.offset.Events || c.events == c.offset.Events && c.offset.Rows == 0
}

// Event takes the next event.
func (c *Counter) Event(h binlog.Header, body []byte) error {
	c.events++
	switch h.Kind {
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return errors.New("the connector has stopped inside a compressed transaction, whose events it counts in a way of its own: start it again, and stop it " +
			"while nothing is written")
	case replication.XID_EVENT, replication.XA_PREPARE_LOG_EVENT, replication.ROTATE_EVENT, replication.FORMAT_DESCRIPTION_EVENT:
		return c.ends(h)
	case replication.TABLE_MAP_EVENT:
		m, err := binlog.ParseTableMap(append([]byte(nil), body...))
		if err == nil {
			c.maps[binlog.UintLE(body[:6])] = m
		}
		return err
	}
	if _, _, _, ok := binlog.RowsEventKind(h.Kind); !ok {
		if c.events > c.offset.Events {
			return c.ends(h)
		}
		return nil
	}
	rows, err := binlog.ParseRows(h.Kind, body)
	if err != nil {
		return err
	}
	m := c.maps[rows.TableID]
	if m == nil {
		return fmt.Errorf("%s of table id %d without its table map", h.Kind, rows.TableID)
	}
	n, err := m.CountRows(rows)
	if err != nil {
		return err
	}
	if c.events > c.offset.Events {
		if uint64(n) < c.offset.Rows {
			return fmt.Errorf("the offset has %d rows of an event of %s that has %d: the log is another one", c.offset.Rows, m.Name(), n)
		}
		n = int(c.offset.Rows)
	}
	c.Sent += uint64(n)
	return nil
}

// ends is the error of a transaction that is shorter than the offset says. After a commit, a connector may have counted the event that ended it.
func (c *Counter) ends(h binlog.Header) error {
	if c.events <= c.offset.Events && c.offset.Rows == 0 {
		c.events = c.offset.Events
		return nil
	}
	return fmt.Errorf("the offset has %d events and %d rows of a transaction, which has a %s as event %d: the log is another one", c.offset.Events, c.offset.Rows, h.Kind, c.events)
}
