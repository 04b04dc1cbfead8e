package mysqlcdc

import (
	"context"
	"fmt"
	"hash/crc32"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// prepare runs statements in an XA transaction up to XA PREPARE. Only a session that is not in it can do anything else.
func (b *bench) prepare(t *testing.T, xid string, statements ...string) {
	t.Helper()
	b.exec(t, "XA START "+xid)
	t.Cleanup(func() { _, _ = b.sql.ExecContext(context.WithoutCancel(t.Context()), "XA ROLLBACK "+xid) }) // where the test fails
	b.exec(t, statements...)
	b.exec(t, "XA END "+xid, "XA PREPARE "+xid)
}

// second is another session.
func (b *bench) second(t *testing.T) *bench {
	t.Helper()
	conn, err := b.srv.DB(t, b.db).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &bench{srv: b.srv, db: b.db, sql: conn}
}

// onEveryPosition runs a test on both products, with GTIDs and with files and positions, with and without compression.
func onEveryPosition(t *testing.T, test func(t *testing.T, b *bench, yaml string)) {
	for _, gtid := range []string{"true", "false"} {
		t.Run("gtid "+gtid, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) { test(t, b, "use_gtid: "+gtid) })
		})
	}
}

// TestXA: rows of an XA transaction are events when it is committed, in the place of its XA COMMIT, and never when it is rolled back; also
// when the source is started again in between. Another server has them under another position.
func TestXA(t *testing.T) {
	onEveryPosition(t, func(t *testing.T, b *bench, yaml string) {
		if !b.srv.IsMariaDB() {
			b.exec(t, "SET SESSION binlog_transaction_compression = ON")
		}
		other := b.second(t)
		meanwhile := func(n int) { other.exec(t, fmt.Sprintf("INSERT INTO c VALUES (%d, 'meanwhile')", n)) }
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE ignored (id INT PRIMARY KEY)")
		l := b.newLog(t, yaml+fmt.Sprintf("\ntables: {include: [%q]}", b.db+".c"))
		r := start(t, l, checkpoint.Token{}).connected(t)
		from := r.tok

		b.prepare(t, "'one'", "INSERT INTO c VALUES (1, 'a'), (2, 'b')", "INSERT INTO ignored VALUES (1)", "UPDATE c SET v = 'z' WHERE id = 2")
		meanwhile(100)
		require.Equal(t, []string{`c {"id":100} - {"id":100,"v":"meanwhile"}`}, rows(t, r.take(t, 1)))
		prepared := r.tok
		r.stop(t)
		other.exec(t, "FLUSH BINARY LOGS")
		meanwhile(101)
		b.exec(t, "XA COMMIT 'one'")
		b.prepare(t, "'two','branch',7", "INSERT INTO c VALUES (3, 'undone')")
		meanwhile(102)
		b.exec(t, "XA ROLLBACK 'two','branch',7", "XA START 'three'", "INSERT INTO c VALUES (4, 'c')", "XA END 'three'", "XA COMMIT 'three' ONE PHASE")
		b.prepare(t, "'four'", "INSERT INTO ignored VALUES (2)")
		b.exec(t, "XA COMMIT 'four'")
		b.prepare(t, "'one'", "DELETE FROM c WHERE id = 1") // the same name again
		b.exec(t, "XA COMMIT 'one'", "INSERT INTO c VALUES (5, 'last')")
		want := []string{
			`c {"id":101} - {"id":101,"v":"meanwhile"}`,
			`c {"id":1} - {"id":1,"v":"a"}`, `c {"id":2} - {"id":2,"v":"b"}`, `u {"id":2} {"id":2,"v":"b"} {"id":2,"v":"z"}`,
			`c {"id":102} - {"id":102,"v":"meanwhile"}`, `c {"id":4} - {"id":4,"v":"c"}`, `d {"id":1} {"id":1,"v":"a"} -`,
			`c {"id":5} - {"id":5,"v":"last"}`,
		}
		again := l.restarted(t)
		r = start(t, again, reparsed(prepared)).connected(t)
		got := r.take(t, len(want))
		require.Equal(t, want, rows(t, got))
		require.Equal(t, []uint64{1, 2, 4}, []uint64{got[1].event.Index, got[2].event.Index, got[3].event.Index}, "ignored counts")
		require.Same(t, got[1].event.Tx, got[3].event.Tx)
		r.stop(t)
		state, err := again.history.At(parsedPosition(t, r.tok))
		require.NoError(t, err)
		require.Empty(t, state[shape.NoDatabase].Prepared, "what has ended is forgotten")

		// From before the first one, and from each place in the transaction.
		all := start(t, l.restarted(t), reparsed(from)).connected(t).take(t, 1+len(want))
		require.Equal(t, ids(got), ids(all[1:]))
		tok := got[1].before(t, l, prepared)
		for i, left := range map[uint64][]received{1: got[2:], 2: got[3:], 3: got[3:], 4: got[4:]} {
			tok.Sent = i
			b.resumes(t, l, tok, left)
		}
	})
}

// TestXAOnAnotherServer: the history names the transaction where the files are others.
func TestXAOnAnotherServer(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		for _, gtid := range []string{"true", "false"} {
			t.Run("gtid "+gtid, func(t *testing.T) { testXAOnAnotherServer(t, b, "use_gtid: "+gtid) })
		}
	})
}

func testXAOnAnotherServer(t *testing.T, b *bench, yaml string) {
	b.exec(t, "DROP TABLE IF EXISTS c", "CREATE TABLE c (id INT PRIMARY KEY)")
	l := b.newLog(t, yaml)
	r := start(t, l, checkpoint.Token{}).connected(t)
	from := r.tok.Commit.String() // another server can have others in between
	b.exec(t, "INSERT INTO c VALUES (9)")
	r.take(t, 1)
	b.prepare(t, "'one'", "INSERT INTO c VALUES (1)")
	for seg := r.segment(t); seg.CommitTime.IsZero(); seg = r.segment(t) {
	}
	tok := r.tok
	r.stop(t)
	record, err := l.history.Whole()
	require.NoError(t, err)
	var edited []byte
	place := regexp.MustCompile(`"at":"[^"]*","server":"[^"]*"`)
	for _, line := range historyLines(t, record) { // as if it had come from elsewhere
		line = place.ReplaceAllString(line, fmt.Sprintf(`"at":%q,"server":"elsewhere"`, from))
		edited = fmt.Appendf(edited, "%08x %s\n", crc32.ChecksumIEEE([]byte(line)), line)
	}
	l = l.with(t, edited)
	b.exec(t, "XA COMMIT 'one'")
	r = start(t, l, reparsed(tok)).connected(t)
	if strings.HasSuffix(yaml, "true") {
		require.Equal(t, []string{`c {"id":1} - {"id":1}`}, rows(t, r.take(t, 1)))
		return
	}
	err = r.fail(t)
	require.Equal(t, fault.KindPositionLost, fault.KindOf(err))
	require.ErrorContains(t, err, "XA transaction X'6f6e65',X'',1, which is committed at bin.")
	require.ErrorContains(t, err, "a place in the files of server elsewhere")
}

// TestXAPurged: rows that the server has thrown away before they were committed are lost, and are not passed over.
func TestXAPurged(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.prepare(t, "'one'", "INSERT INTO c VALUES (1)")
		for seg := r.segment(t); seg.CommitTime.IsZero(); seg = r.segment(t) {
		}
		other := b.second(t)
		other.exec(t, "FLUSH BINARY LOGS", "INSERT INTO c VALUES (2)")
		for seg := r.segment(t); seg.Rows == nil; seg = r.segment(t) {
		}
		other.purge(t)
		b.exec(t, "XA COMMIT 'one'")
		err := r.fail(t)
		require.Equal(t, fault.KindPositionLost, fault.KindOf(err))
		require.ErrorContains(t, err, "its rows were prepared at ")
	})
}
