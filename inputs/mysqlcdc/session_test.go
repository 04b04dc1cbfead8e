package mysqlcdc

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/filter"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// made is a log that a test makes: its events lie one after the other.
type made struct {
	events [][]byte
	pos    uint32
}

func (m *made) add(kind replication.EventType, body []byte) {
	if m.pos == 0 {
		m.pos = 4
	}
	le := binary.LittleEndian
	e := le.AppendUint32(nil, 1700000000)
	e = append(e, byte(kind))
	e = le.AppendUint32(e, 1)
	size := uint32(replication.EventHeaderSize + len(body))
	m.pos += size
	e = le.AppendUint32(le.AppendUint32(e, size), m.pos)
	m.events = append(m.events, append(append(e, 0, 0), body...))
}

func (m *made) gtid(n uint64) {
	b := append([]byte{0}, make([]byte, 16)...)
	m.add(replication.GTID_EVENT, binary.LittleEndian.AppendUint64(b, n))
}

// mariaGTID begins a group of MariaDB.
func (m *made) mariaGTID(seq uint64, flags, extra byte) {
	b := binary.LittleEndian.AppendUint64(nil, seq)
	m.add(replication.MARIADB_GTID_EVENT, append(b, 0, 0, 0, 0, flags, extra, 0, 0, 0, 0, 0))
}

func (m *made) query(text string) {
	b := append(make([]byte, 8), 4, 0, 0, 0, 0)
	m.add(replication.QUERY_EVENT, append(append(b, "fuzz\x00"...), text...))
}

// tableMap is that of a table with the columns id INT and v LONGTEXT in the database fuzz.
func (m *made) tableMap(id byte, table string) {
	b := append([]byte{id, 0, 0, 0, 0, 0, 1, 0, 4}, "fuzz\x00"...)
	b = append(append(b, byte(len(table))), table...)
	m.add(replication.TABLE_MAP_EVENT, append(b, 0, 2, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_BLOB, 1, 4, 3))
}

// insert is a rows event of that table.
func (m *made) insert(id byte, texts ...string) {
	b := []byte{id, 0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 0xff}
	for i, text := range texts {
		b = append(b, 0xfc)
		b = binary.LittleEndian.AppendUint32(b, uint32(i+1))
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	m.add(replication.WRITE_ROWS_EVENTv2, b)
}

func (m *made) xid() { m.add(replication.XID_EVENT, make([]byte, 8)) }

// knowing returns an offline session that captures the table t, and knows it and others as tableMap has them.
func knowing(flavor string, tables ...string) *session {
	s := offline(flavor)
	s.filter.Include = []filter.Pattern{{Container: "fuzz", Table: "t"}}
	for _, name := range tables {
		s.tables.State["fuzz"].Tables[name] = &shape.Table{Columns: []shape.Column{
			{Name: "id", Type: "int"}, {Name: "v", Type: "longtext", Collation: "utf8mb4_bin"},
		}}
	}
	return s
}

// texts are the messages of segments: the row numbers and the beginnings of the texts.
func texts(t *testing.T, segments []coordinator.Segment) (lines []string) {
	t.Helper()
	for _, seg := range segments {
		if seg.Rows == nil {
			continue
		}
		batch, err := seg.Rows.Decode(t.Context(), nil)
		require.NoError(t, err)
		for _, m := range batch {
			g := receive(t, m)
			require.NoError(t, g.err)
			v := g.json["after"].(map[string]any)["v"].(string)
			lines = append(lines, string(g.event.AppendID(nil))+" "+v[:min(len(v), 1)])
		}
	}
	return lines
}

// TestResumeInsideSegments: what was delivered of a rows event that is several segments is left out of all of them.
func TestResumeInsideSegments(t *testing.T) {
	var m made
	m.gtid(1)
	m.query("BEGIN")
	m.tableMap(9, "t")
	var rows []string
	for _, c := range "abcdefgh" {
		rows = append(rows, strings.Repeat(string(c), maxSegment/3))
	}
	m.insert(9, rows...)
	m.xid()
	var all []string
	for skip := range len(rows) + 1 {
		s := knowing(product.MySQL, "t")
		s.skip = uint64(skip)
		segments, err := playEvents(t, s, m.events)
		require.NoError(t, err)
		got := texts(t, segments)
		if skip == 0 {
			require.Len(t, got, len(rows))
			require.Greater(t, len(segments), 2)
			all = got
		}
		require.Equal(t, len(all)-skip, len(got))
		require.Equal(t, all[skip:], append([]string{}, got...), "%d delivered before", skip)
	}
}

// TestXAOfSeveralTables: an XA transaction has rows for us whichever of its tables comes last.
func TestXAOfSeveralTables(t *testing.T) {
	for name, order := range map[string][]string{"captured first": {"t", "other"}, "captured last": {"other", "t"}, "none": {"other", "other"}} {
		var m made
		m.gtid(1)
		m.query("XA START X'61',X'',1")
		for i, table := range order {
			m.tableMap(byte(i+1), table)
			m.insert(byte(i+1), "x")
		}
		m.query("XA END X'61',X'',1")
		m.add(replication.XA_PREPARE_LOG_EVENT, []byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'a'})
		s := knowing(product.MySQL, "t", "other")
		_, err := playEvents(t, s, m.events)
		require.NoError(t, err, name)
		require.Equal(t, name != "none", s.tables.State.Prepared("X'61',X'',1") != nil, name)
	}
}

// TestTransactionWithoutEnd: what follows a transaction that has no end does not belong to it.
func TestTransactionWithoutEnd(t *testing.T) {
	for _, next := range []string{"gtid", "rotate", "format"} {
		var m made
		m.mariaGTID(1, 0, 0)
		m.tableMap(9, "t")
		m.insert(9, "undone")
		switch next {
		case "rotate":
			m.add(replication.ROTATE_EVENT, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, "bin.000002"...))
		case "format":
			m.add(replication.FORMAT_DESCRIPTION_EVENT, make([]byte, 60))
		}
		m.mariaGTID(1, 0, 0)
		m.tableMap(9, "t")
		m.insert(9, "real")
		m.xid()
		s := knowing(product.MariaDB, "t")
		segments, err := playEvents(t, s, m.events)
		require.NoError(t, err, next)
		require.Equal(t, []string{"0-1-1:1 r"}, texts(t, segments), next)
		require.Equal(t, "0-1-1", s.position.GTIDs())

		// MySQL cuts such a part off: where there is one, something else is wrong.
		m = made{}
		m.gtid(1)
		m.query("BEGIN")
		m.tableMap(9, "t")
		m.insert(9, "x")
		m.gtid(2)
		_, err = playEvents(t, knowing(product.MySQL, "t"), m.events)
		require.ErrorContains(t, err, "has no end")
	}
}

// TestAlterPhases: the flags of a group say whether its ALTER counts.
func TestAlterPhases(t *testing.T) {
	const standalone, ddl = 0x01, 0x20
	for extra, changes := range map[byte]bool{0: true, 0x02: false, 0x04: true, 0x08: false} {
		var m made
		m.mariaGTID(1, standalone|ddl, extra)
		m.query("ALTER TABLE t DROP COLUMN v")
		s := knowing(product.MariaDB, "t")
		_, err := playEvents(t, s, m.events)
		require.NoError(t, err)
		require.Equal(t, !changes, len(s.tables.State.Table("fuzz", "t").Columns) == 2, "%#x", extra)
	}
}

// TestManyTableMaps: the maps that are remembered are forgotten between two transactions, and not between those of one statement.
func TestManyTableMaps(t *testing.T) {
	s := knowing(product.MySQL, "t", "other")
	for id := range uint64(maxMaps) {
		s.maps[1<<20+id] = &mappedTable{}
	}
	var m made
	for n := range uint64(2) {
		m.gtid(n + 1)
		m.query("BEGIN")
		m.tableMap(1, "t")
		m.tableMap(2, "other")
		m.insert(1, "a")
		m.insert(2, "b")
		m.xid()
	}
	segments, err := playEvents(t, s, m.events)
	require.NoError(t, err)
	require.Len(t, texts(t, segments), 2)
	require.Len(t, s.maps, 2)
}

// TestPositionWhileSkipping: while the events of a transaction that were delivered before are skipped, nothing says that the position is
// before them.
func TestPositionWhileSkipping(t *testing.T) {
	var m made
	m.add(replication.HEARTBEAT_EVENT, []byte("bin.000001"))
	m.add(replication.ROTATE_EVENT, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, "bin.000002"...))
	m.add(replication.HEARTBEAT_EVENT, []byte("bin.000002"))
	m.gtid(1)
	m.query("BEGIN")
	m.tableMap(1, "t")
	m.insert(1, "a", "b", "c")
	m.xid()
	for skip, want := range map[uint64][]string{0: {"00000000-0000-0000-0000-000000000000:1:1 a", "00000000-0000-0000-0000-000000000000:1:2 b", "00000000-0000-0000-0000-000000000000:1:3 c"}, 2: {"00000000-0000-0000-0000-000000000000:1:3 c"}} {
		s := knowing(product.MySQL, "t")
		s.skip = skip
		segments, err := playEvents(t, s, m.events)
		require.NoError(t, err)
		require.Equal(t, want, texts(t, segments))
		for _, seg := range segments {
			require.Equal(t, skip == 0 || seg.Rows != nil, seg.Commit != nil)
		}
	}
}

// TestUnknownEvents: an event of a later version is passed over only if it says that it may be.
func TestUnknownEvents(t *testing.T) {
	var m made
	m.add(99, []byte("new"))
	_, err := playEvents(t, knowing(product.MySQL, "t"), m.events)
	require.ErrorContains(t, err, "type 99 is not known to this version")
	binary.LittleEndian.PutUint16(m.events[0][17:], replication.LOG_EVENT_IGNORABLE_F)
	_, err = playEvents(t, knowing(product.MySQL, "t"), m.events)
	require.NoError(t, err)
}

// TestLookForEnd: what ends a transaction, and what shows that it has no end.
func TestLookForEnd(t *testing.T) {
	for name, c := range map[string]struct {
		follow func(m *made)
		ends   bool
	}{
		"XID":         {func(m *made) { m.xid() }, true},
		"COMMIT":      {func(m *made) { m.query("COMMIT") }, true},
		"ROLLBACK":    {func(m *made) { m.query("ROLLBACK") }, true},
		"a statement": {func(m *made) { m.query("SAVEPOINT a"); m.query("ROLLBACK TO a"); m.mariaGTID(2, 0, 0); m.xid() }, false},
		"another one": {func(m *made) { m.mariaGTID(2, 0, 0); m.xid() }, false},
		"nothing":     {func(*made) {}, false},
	} {
		var m made
		m.mariaGTID(1, 0, 0)
		m.tableMap(9, "t")
		m.insert(9, "x")
		read := len(m.events)
		c.follow(&m)
		s := knowing(product.MariaDB, "t")
		_, err := playEvents(t, s, m.events[:read])
		require.NoError(t, err)
		s.excerpts = func(_ context.Context, from *gtid.Position) (events, error) { return excerptOf(m.events, from) }
		ends, err := s.lookForEnd(t.Context())
		require.NoError(t, err)
		require.Equal(t, c.ends, ends, name)
	}
}
