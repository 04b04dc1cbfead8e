package mysqlcdc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/history"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/recorded"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

func flavorOf(maria bool) string {
	if maria {
		return product.MariaDB
	}
	return product.MySQL
}

// checkSegments checks what holds for everything that a session sends: what can be decoded is JSON, events of a transaction are
// counted upwards, a position can be read back. It returns the messages.
func checkSegments(t *testing.T, segments []coordinator.Segment) (payloads []string) {
	t.Helper()
	index := map[*change.Tx]uint64{}
	for _, seg := range segments {
		if seg.Commit != nil {
			text := seg.Commit.String()
			if _, err := gtid.ParsePosition(text); err != nil {
				t.Fatalf("position %q cannot be read back: %v", text, err)
			}
		}
		if seg.Rows == nil {
			continue
		}
		batch, err := seg.Rows.Decode(t.Context(), nil)
		if err != nil {
			continue
		}
		for _, m := range batch {
			ev, _ := change.FromMessage(m)
			if last := index[ev.Tx]; ev.Index < last || ev.Index == last && ev.Sub == 0 {
				t.Fatalf("event %d of %s after event %d", ev.Index, ev.Tx.ID, index[ev.Tx])
			}
			index[ev.Tx] = ev.Index
			payloads = append(payloads, checkMessage(t, m))
		}
	}
	return payloads
}

func checkMessage(t *testing.T, m *service.Message) string {
	t.Helper()
	if err := m.GetError(); err != nil {
		return err.Error()
	}
	raw, err := m.AsBytes()
	if err != nil || !json.Valid(raw) {
		t.Fatalf("%s: %v", raw, err)
	}
	return string(raw)
}

// FuzzEvents gives a whole session events: the recorded logs, and what becomes of them.
func FuzzEvents(f *testing.F) {
	for _, maria := range []bool{false, true} {
		events := recorded.Events(f, flavorOf(maria))
		f.Add(slices.Concat(events...), maria)
		for i := range events { // each with what it needs before it, as far as the same transaction has it
			f.Add(slices.Concat(events[max(0, i-3):i+1]...), maria)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, maria bool) {
		s := offline(flavorOf(maria))
		segments, _ := playEvents(t, s, recorded.Split(data))
		checkSegments(t, segments)
		record, err := s.log.history.Whole()
		if err != nil {
			t.Fatal(err)
		}
		if err := (&history.History{}).Restore(record); err != nil {
			t.Fatalf("the history cannot be read back: %v\n%s", err, record)
		}
	})
}

// rowsKinds are all kinds of rows events.
func rowsKinds() []replication.EventType {
	return []replication.EventType{
		replication.WRITE_ROWS_EVENTv1, replication.UPDATE_ROWS_EVENTv1, replication.DELETE_ROWS_EVENTv1,
		replication.WRITE_ROWS_EVENTv2, replication.UPDATE_ROWS_EVENTv2, replication.DELETE_ROWS_EVENTv2,
		replication.PARTIAL_UPDATE_ROWS_EVENT, replication.MARIADB_WRITE_ROWS_COMPRESSED_EVENT_V1,
		replication.MARIADB_UPDATE_ROWS_COMPRESSED_EVENT_V1, replication.MARIADB_DELETE_ROWS_COMPRESSED_EVENT_V1,
	}
}

// FuzzRowsEvent gives rows of every kind of event to a table of every type: counting, splitting and decoding them agree.
func FuzzRowsEvent(f *testing.F) {
	for i, k := range rowsKinds() {
		for _, flavor := range []string{product.MySQL, product.MariaDB} {
			for _, e := range recorded.Events(f, flavor) {
				if recorded.Kind(e) == k {
					f.Add(e[replication.EventHeaderSize:], byte(i), flavor == product.MariaDB)
				}
			}
		}
	}
	tables := map[bool]*mappedTable{}
	for _, maria := range []bool{false, true} {
		s := offline(flavorOf(maria))
		if err := s.tableMap(f.Context(), recorded.Bodies(f, flavorOf(maria), replication.TABLE_MAP_EVENT)[0]); err != nil {
			f.Fatal(err)
		}
		for _, m := range s.maps {
			tables[maria] = m
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte, maria bool) {
		ev, err := binlog.ParseRows(rowsKinds()[int(kind)%len(rowsKinds())], body)
		if err != nil {
			return
		}
		m := tables[maria]
		seg := &row.Segment{
			Layout: m.shape, Event: ev, TableMap: m.tm, Images: ev.Images, Index: 1, File: "b.000001", Pos: 4, ReadAt: playedAt,
			Tx: &change.Tx{ID: "x:1", Position: "x:1", CommitTime: playedAt.UTC()},
		}
		n, err := m.tm.CountRows(ev)
		batch, decodeErr := seg.Decode(t.Context(), nil)
		if (err == nil) != (decodeErr == nil) || err == nil && len(batch) != n {
			t.Fatalf("%d rows (%v), %d decoded (%v)", n, err, len(batch), decodeErr)
		}
		if err != nil {
			return
		}
		checkSegments(t, []coordinator.Segment{{Rows: seg}})
		total := 0
		var parts []byte
		for rest := ev.Images; len(rest) > 0; {
			head, next, n, err := m.tm.Split(ev, rest, 64)
			if err != nil || len(head) == 0 {
				t.Fatalf("split into %d bytes: %v", len(head), err)
			}
			total, parts, rest = total+n, append(parts, head...), next
		}
		if !bytes.Equal(parts, ev.Images) || total != n && !ev.Blank() {
			t.Fatalf("split into %d rows of %d", total, n)
		}
	})
}

// FuzzPayload gives any bytes to the reader of compressed transactions, and wraps them as events into one: plain and compressed they
// say what they say without a wrapping.
func FuzzPayload(f *testing.F) {
	for _, body := range recorded.Bodies(f, product.MySQL, replication.TRANSACTION_PAYLOAD_EVENT) {
		f.Add(body)
	}
	events := recorded.Events(f, product.MySQL)
	for i := range events {
		if recorded.Kind(events[i]) == replication.TABLE_MAP_EVENT {
			f.Add(slices.Concat(events[i-1 : i+3]...)) // BEGIN to the commit
		}
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inside := func(body []byte) ([]string, error) {
			s := offline(product.MySQL)
			s.tx = &transaction{tx: &change.Tx{ID: "x:1", Position: "x:1", CommitTime: playedAt.UTC()}, gtid: gtid.ID{GNO: 1}}
			segments, err := play(t, s, func(ctx context.Context) error { return s.payload(ctx, body, 4, playedAt) })
			return checkSegments(t, segments), err
		}
		_, _ = inside(data)
		events := recorded.Split(data)
		whole := slices.Concat(events...)
		wrap := func(compression byte, content []byte) []byte {
			return append([]byte{replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD, 3, 0xfc, compression, 0, replication.OTW_PAYLOAD_HEADER_END_MARK}, content...)
		}
		plain, plainErr := inside(wrap(replication.NONE, whole))
		packed, packedErr := inside(wrap(replication.ZSTD, encoder.EncodeAll(whole, nil)))
		if !slices.Equal(plain, packed) || fmt.Sprint(plainErr) != fmt.Sprint(packedErr) {
			t.Fatalf("plain %q (%v), compressed %q (%v)", plain, plainErr, packed, packedErr)
		}
	})
}

// FuzzGTIDEvent gives any bytes to the readers of the events that a transaction starts with: the transaction has a name, and the
// position after it can be read back and includes it.
func FuzzGTIDEvent(f *testing.F) {
	kinds := []replication.EventType{
		replication.GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT, replication.MARIADB_GTID_EVENT, replication.ANONYMOUS_GTID_EVENT,
	}
	for i, k := range kinds[:3] {
		for _, body := range recorded.Bodies(f, flavorOf(i == 2), k) {
			f.Add(body, byte(i), uint32(1))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, kind byte, server uint32) {
		k := kinds[int(kind)%len(kinds)]
		s := offline(flavorOf(k == replication.MARIADB_GTID_EVENT))
		h := binlog.Header{Kind: k, ServerID: server, Timestamp: 1}
		if s.dispatch(t.Context(), h, body, 4, playedAt) != nil {
			return
		}
		tx := s.tx
		if tx == nil || tx.tx.CommitTime.IsZero() {
			t.Fatal("no transaction")
		}
		s.name(tx)
		segments, err := play(t, s, func(ctx context.Context) error { return s.commit(ctx, playedAt) })
		checkSegments(t, segments)
		if err != nil {
			if k != replication.ANONYMOUS_GTID_EVENT {
				t.Fatal(err)
			}
			return
		}
		p, err := gtid.ParsePosition(tx.tx.GTID)
		if err != nil {
			t.Fatalf("GTID %q cannot be read back: %v", tx.tx.GTID, err)
		}
		if c, ok := s.position.Compare(p); !ok || c != 0 {
			t.Fatalf("the position is %s after %s", s.position, p)
		}
	})
}

// FuzzQuery gives any bytes to the reader of statements.
func FuzzQuery(f *testing.F) {
	for _, maria := range []bool{false, true} {
		for _, body := range recorded.Bodies(f, flavorOf(maria), replication.QUERY_EVENT) {
			f.Add(body, maria)
		}
	}
	for _, body := range recorded.Bodies(f, product.MariaDB, replication.MARIADB_QUERY_COMPRESSED_EVENT) {
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body []byte, maria bool) {
		for _, kind := range []replication.EventType{replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT} {
			s := offline(flavorOf(maria))
			s.tx = &transaction{tx: &change.Tx{CommitTime: playedAt}, gtid: gtid.ID{GNO: 1}, isMaria: maria}
			segments, _ := play(t, s, func(ctx context.Context) error { return s.query(ctx, binlog.Header{Kind: kind}, body, 4, playedAt) })
			checkSegments(t, segments)
		}
		_ = binlog.ParseQueryVars(body, flavorOf(maria))
	})
}
