package mysqlcdc

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestTimeZones: an instant is the same whatever the time zones of the server and of the session that wrote it; what has no time zone is
// not moved.
func TestTimeZones(t *testing.T) {
	onBothMetadata(t, func(t *testing.T, b *bench) {
		defer b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT", "SET GLOBAL time_zone = 'SYSTEM'")
		b.exec(t, "SET GLOBAL time_zone = '+05:30'", "CREATE TABLE c (id INT PRIMARY KEY, ts TIMESTAMP(1), dt DATETIME(1))")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "SET time_zone = '+05:30'", "INSERT INTO c VALUES (1, '2024-02-29 13:51:30.5', '2024-02-29 13:51:30.5')",
			"SET time_zone = '-11:00'", "INSERT INTO c VALUES (2, '2024-02-28 21:21:30.5', '2024-02-29 13:51:30.5')", "UPDATE c SET dt = ts WHERE id = 1")
		const at = `"ts":"2024-02-29T08:21:30.5Z","dt":`
		require.Equal(t, []string{
			`c {"id":1} - {"id":1,` + at + `"2024-02-29T13:51:30.5"}`,
			`c {"id":2} - {"id":2,` + at + `"2024-02-29T13:51:30.5"}`,
			`u {"id":1} {"id":1,` + at + `"2024-02-29T13:51:30.5"} {"id":1,` + at + `"2024-02-28T21:21:30.5"}`,
		}, rows(t, r.take(t, 3)))
	})
}

// TestZeroDates: zero dates are what the server shows, also where the session is strict and lets them pass.
func TestZeroDates(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "SET sql_mode = ''", "CREATE TABLE c (id INT PRIMARY KEY, d DATE NOT NULL, dt DATETIME NOT NULL, ts TIMESTAMP NOT NULL DEFAULT 0)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (1, 0, 0, 0)", "INSERT INTO c VALUES (2, 'no date', '2024-00-10', '1969-12-31 00:00:00')",
			"SET sql_mode = 'STRICT_ALL_TABLES'", "INSERT INTO c VALUES (3, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00')")
		const zero = `"d":"0000-00-00","dt":"0000-00-00 00:00:00","ts":"0000-00-00 00:00:00"}`
		require.Equal(t, []string{
			`c {"id":1} - {"id":1,` + zero,
			`c {"id":2} - {"id":2,"d":"0000-00-00","dt":"2024-00-10 00:00:00","ts":"0000-00-00 00:00:00"}`,
			`c {"id":3} - {"id":3,` + zero,
		}, rows(t, r.take(t, 3)))
	})
}

// TestHighBits: no number is taken for a negative one.
func TestHighBits(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id BIGINT UNSIGNED PRIMARY KEY, b BIT(64), s SET("+numberedLabels(64)+"), m MEDIUMINT UNSIGNED)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (9223372036854775808, x'8000000000000000', 'l63', 8388608)")
		require.Equal(t, []string{`c {"id":9223372036854775808} - {"id":9223372036854775808,"b":"1` + strings.Repeat("0", 63) +
			`","s":"l63","m":8388608}`}, rows(t, r.take(t, 1)))
	})
}

// TestPlaceInCompressedTransaction: what lies in a compressed transaction has the place of that transaction, not 0, and positions go on
// after it.
func TestPlaceInCompressedTransaction(t *testing.T) {
	for _, gtid := range []string{"true", "false"} {
		b := newBench(t, testenv.MySQL(t))
		b.exec(t, "SET SESSION binlog_transaction_compression = ON", "CREATE TABLE c (id INT PRIMARY KEY, v TEXT)")
		l := b.newLog(t, "use_gtid: "+gtid)
		r := start(t, l, checkpoint.Token{}).connected(t)
		before := parsedPosition(t, r.tok).Pos
		b.exec(t, "BEGIN", "INSERT INTO c VALUES (1, REPEAT('a', 5000))", "INSERT INTO c VALUES (2, REPEAT('b', 5000))", "COMMIT")
		got := r.take(t, 2)
		after := parsedPosition(t, r.tok).Pos
		for _, g := range got {
			require.Greater(t, g.event.Pos, before)
			require.Less(t, g.event.Pos, after)
			require.NotEmpty(t, g.event.File)
		}
		require.Equal(t, got[0].event.Pos, got[1].event.Pos)
		tok := r.tok
		r.stop(t)
		b.exec(t, "INSERT INTO c VALUES (3, REPEAT('c', 5000))")
		r = start(t, l.restarted(t), reparsed(tok)).connected(t)
		require.Equal(t, []string{`{"id":3}`}, []string{r.take(t, 1)[0].key})
	}
}

// TestStartIsSaved: where a source starts is known before anything has happened, so that a source that dies before the first transaction,
// or in it, starts there again.
func TestStartIsSaved(t *testing.T) {
	for _, gtid := range []string{"true", "false"} {
		onBoth(t, func(t *testing.T, b *bench) {
			b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
			l := b.newLog(t, "use_gtid: "+gtid)
			r := start(t, l, checkpoint.Token{})
			seg := r.segment(t)
			require.Nil(t, seg.Rows)
			require.NotNil(t, seg.Commit)
			tok := r.tok
			r.stop(t)
			b.exec(t, "INSERT INTO c VALUES (1)", "INSERT INTO c VALUES (2)")
			r = start(t, l.restarted(t), reparsed(tok)).connected(t)
			require.Equal(t, []string{`c {"id":1} - {"id":1}`, `c {"id":2} - {"id":2}`}, rows(t, r.take(t, 2)))
		})
	}
}

// TestTruncatedEvent: an event that lacks its end is an error with its place and what can be done, whichever it is.
func TestTruncatedEvent(t *testing.T) {
	s := &session{reader: newReader(&gtid.Position{File: "bin.000007", Pos: 100}), flavor: product.MySQL}
	for kind, whole := range map[replication.EventType]int{
		replication.GTID_EVENT: 25, replication.QUERY_EVENT: 13, replication.TABLE_MAP_EVENT: 8, replication.WRITE_ROWS_EVENTv2: 10,
		replication.XA_PREPARE_LOG_EVENT: 13, replication.EXECUTE_LOAD_QUERY_EVENT: 26, replication.ROTATE_EVENT: 8,
		replication.MARIADB_GTID_EVENT: 13,
	} {
		for n := range whole {
			data := make([]byte, replication.EventHeaderSize+n)
			data[4], data[9] = byte(kind), byte(len(data))
			err := s.event(t.Context(), data, time.Time{})
			require.ErrorIs(t, err, binlog.ErrTruncated, "%s of %d bytes", kind, n)
			require.ErrorContains(t, err, "bin.000007:", kind)
			require.ErrorContains(t, err, "mysqlbinlog --verify-binlog-checksum")
			require.Equal(t, fault.KindProtocol, fault.KindOf(err))
		}
	}
	err := s.event(t.Context(), make([]byte, replication.EventHeaderSize-1), time.Time{})
	require.ErrorIs(t, err, binlog.ErrTruncated)
}

// TestTypesVectorsAmongTexts: MySQL counts a VECTOR among the columns that have a character set in the log.
func TestTypesVectorsAmongTexts(t *testing.T) {
	for i, columns := range []string{
		"v VECTOR(3), t VARCHAR(300), b BLOB, c VARBINARY(5)",
		"t VARCHAR(300), v VECTOR(3), b BLOB",
		"e ENUM('x'), v VECTOR(3), w VECTOR(4), b BLOB, t TEXT CHARACTER SET latin1, s SET('y') CHARACTER SET latin1, u CHAR(3)",
		"g POINT, j JSON, v VECTOR(3), h GEOMETRY, b BLOB, t VARCHAR(300) CHARACTER SET latin1, u VARCHAR(300)",
	} {
		for _, metadata := range []string{"MINIMAL", "FULL"} {
			t.Run(fmt.Sprint(i, metadata), func(t *testing.T) {
				b := newBench(t, testenv.MySQL(t))
				b.exec(t, "SET GLOBAL binlog_row_metadata = "+metadata, "SET NAMES utf8mb4", "CREATE TABLE z (id INT, "+columns+") CHARACTER SET utf8mb4")
				r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO z (id, t, b) VALUES (1, 'ü', x'ff')", "SET GLOBAL binlog_row_metadata = DEFAULT")
				got := r.take(t, 1)[0]
				require.NoError(t, got.err)
				var after map[string]any
				require.NoError(t, json.Unmarshal([]byte(part(got.raw, "after")), &after))
				require.Equal(t, "ü", after["t"])
				require.Equal(t, map[string]any{"_base64": "/w=="}, after["b"])
			})
		}
	}
}
