package mysqlcdc

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestOperations(t *testing.T) {
	for _, metadata := range []string{"MINIMAL", "FULL"} {
		t.Run(metadata, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) { testOperations(t, b, metadata) })
		})
	}
}

func testOperations(t *testing.T, b *bench, metadata string) {
	b.exec(t,
		"SET GLOBAL binlog_row_metadata = "+metadata,
		"CREATE TABLE c (id INT PRIMARY KEY, email VARCHAR(40))",
		"CREATE TABLE plain (a INT, b TEXT)",
		"CREATE TABLE uniq (a INT NULL, b INT NOT NULL, c INT NOT NULL, UNIQUE (a), UNIQUE bc (c, b))",
	)
	r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
	b.exec(t,
		"INSERT INTO c VALUES (1, 'a@example.com')",
		"UPDATE c SET email = 'b@example.com'",
		"UPDATE c SET id = 2",
		"DELETE FROM c",
		"BEGIN", "INSERT INTO c VALUES (7, NULL)", "ROLLBACK",
		"BEGIN", "INSERT INTO c VALUES (3, 'x'), (4, 'ü')", "INSERT INTO plain VALUES (1, 'p'), (1, 'p')",
		"UPDATE plain SET b = NULL", "COMMIT",
		"INSERT INTO uniq VALUES (NULL, 1, 2)",
		"TRUNCATE TABLE c",
		"truncate `"+b.db+"`.`plain`",
	)
	got := r.take(t, 13)
	require.Equal(t, []string{
		`c {"id":1} - {"id":1,"email":"a@example.com"}`,
		`u {"id":1} {"id":1,"email":"a@example.com"} {"id":1,"email":"b@example.com"}`,
		`u {"id":2} {"id":1,"email":"b@example.com"} {"id":2,"email":"b@example.com"}`,
		`d {"id":2} {"id":2,"email":"b@example.com"} -`,
		`c {"id":3} - {"id":3,"email":"x"}`,
		`c {"id":4} - {"id":4,"email":"ü"}`,
		`c  - {"a":1,"b":"p"}`,
		`c  - {"a":1,"b":"p"}`,
		`u  {"a":1,"b":"p"} {"a":1,"b":null}`,
		`u  {"a":1,"b":"p"} {"a":1,"b":null}`,
		`c {"c":2,"b":1} - {"a":null,"b":1,"c":2}`,
		`t  - -`,
		`t  - -`,
	}, rows(t, got))
	for i, g := range got[4:10] {
		require.Equal(t, uint64(i+1), g.event.Index)
		require.Equal(t, got[4].event.Tx, g.event.Tx)
	}
	require.Equal(t, []string{"c", "plain"}, []string{got[11].event.Table.Name, got[12].event.Table.Name})
}

func TestWholeEvent(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, email VARCHAR(40))")
		r := start(t, b.newLog(t, "tenant: acme"), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (1, 'a'), (2, 'b')")
		got := r.take(t, 2)
		g := got[1]
		require.WithinDuration(t, g.event.ReadAt, g.event.Tx.CommitTime, patience)
		gtid := g.event.Tx.GTID
		form := `^[0-9a-f-]{36}:\d+$`
		if b.srv.IsMariaDB() {
			form = `^0-1-\d+$`
		}
		require.Regexp(t, form, gtid)
		require.Regexp(t, `^bin\.\d{6}$`, g.event.File)
		require.Positive(t, g.event.Pos)
		want := fmt.Sprintf(`{"before":null,"after":{"id":2,"email":"b"},"source":{"version":"test","connector":"mysql",`+
			`"name":"test_%[1]s","ts_ms":%[2]d,TSUS"snapshot":"false","db":"%[1]s","table":"c","server_id":1,"gtid":"%[3]s",`+
			`"file":"%[4]s","pos":%[5]d,"row":1},"op":"c","ts_ms":%[6]d,"transaction":{"id":"%[3]s","total_order":2},`+
			`"event_id":"%[3]s:2","tenant_id":"acme","schema_version":"%[7]s"}`,
			b.db, g.event.Tx.CommitTime.UnixMilli(), gtid, g.event.File, g.event.Pos, g.event.ReadAt.UnixMilli(),
			g.event.Table.Fingerprint())
		require.Equal(t, strings.ReplaceAll(want, "TSUS", ""), regexp.MustCompile(`"ts_us":\d+,`).ReplaceAllString(g.raw, ""))
	})
}

func TestFilters(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE a_one (id INT PRIMARY KEY)", "CREATE TABLE a_two (id INT PRIMARY KEY)", "CREATE TABLE b (id INT PRIMARY KEY)")
		l := b.newLog(t, fmt.Sprintf("tables: {include: [%q, %q], exclude: ['%%.a_two']}", b.db+".a%", "other.*"))
		r := start(t, l, checkpoint.Token{}).connected(t)
		b.exec(t, "BEGIN", "INSERT INTO b VALUES (1), (2)", "INSERT INTO a_two VALUES (1)", "INSERT INTO a_one VALUES (1)",
			"INSERT INTO b VALUES (3)", "COMMIT")
		got := r.take(t, 1)
		require.Equal(t, "a_one", got[0].event.Table.Name)
		require.Equal(t, uint64(4), got[0].event.Index, "rows of tables that are left out count")

		// A transaction without captured rows still moves the position.
		before := r.tok.Commit.(*gtid.Position)
		b.exec(t, "INSERT INTO b VALUES (4)")
		for {
			seg := r.segment(t)
			require.Nil(t, seg.Rows)
			if c, ok := seg.Commit.(*gtid.Position).Compare(before); ok && c > 0 {
				break
			}
		}
	})
}

// TestResume takes a transaction apart in the middle, and restarts between transactions.
func TestResume(t *testing.T) {
	for _, gtid := range []string{"true", "false"} {
		t.Run("gtid="+gtid, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v LONGTEXT)", "CREATE TABLE skipped (id INT PRIMARY KEY)")
				l := b.newLog(t, fmt.Sprintf("use_gtid: %q\ntables: {include: [%q]}", gtid, b.db+".c"))
				r := start(t, l, checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO c VALUES (1, 'x')")
				r.take(t, 1)
				from := r.tok
				b.exec(t, "BEGIN", "INSERT INTO skipped VALUES (1), (2)")
				for i := range 10 {
					b.exec(t, fmt.Sprintf("INSERT INTO c VALUES (%d, REPEAT('y', 3000)), (%d, REPEAT('z', 3000)), (%d, '')",
						100+10*i, 101+10*i, 102+10*i))
				}
				b.exec(t, "COMMIT", "INSERT INTO c VALUES (2, 'last')")
				want := r.take(t, 30)
				commit := r.tok
				last := r.take(t, 1)
				r.stop(t)

				at := want[0].before(t, l, from)
				for _, sent := range []uint64{0, 1, 2, 3, 5, 17, 31, 32} {
					at.Sent = sent
					again := start(t, l, reparsed(at)).connected(t)
					left := want
					if sent > 2 {
						left = want[sent-2:]
					}
					got := again.take(t, len(left)+1)
					require.Equal(t, ids(append(append([]received{}, left...), last...)), ids(got), "sent %d", sent)
					again.stop(t)
				}
				// A restart after the last commit gives only what is new.
				again := start(t, l, reparsed(commit)).connected(t)
				require.Equal(t, ids(last), ids(again.take(t, 1)))
			})
		})
	}
}

// before returns the place right before the event's transaction, which a new process finds after from. Of the transactions in between,
// some can be of other tests.
func (g received) before(t *testing.T, l *mysqlLog, from checkpoint.Token) checkpoint.Token {
	t.Helper()
	r := start(t, l.restarted(t), reparsed(from)).connected(t)
	defer r.stop(t)
	for {
		tok := r.tok
		seg := r.segment(t)
		if seg.Rows == nil {
			continue
		}
		batch, err := seg.Rows.Decode(t.Context(), nil)
		require.NoError(t, err)
		if receive(t, batch[0]).event.Tx.Position == g.event.Tx.Position {
			return tok
		}
	}
}

// reparsed is the token as it comes out of a store.
func reparsed(tok checkpoint.Token) checkpoint.Token {
	tok.Commit = checkpoint.Text(tok.Commit.String())
	return tok
}

func ids(got []received) (out []string) {
	for _, g := range got {
		out = append(out, string(g.event.AppendID(nil)))
	}
	return out
}

func TestFlushLogs(t *testing.T) {
	for _, useGTID := range []string{"true", "false"} {
		t.Run("gtid="+useGTID, func(t *testing.T) {
			onBoth(t, func(t *testing.T, b *bench) {
				b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
				l := b.newLog(t, "use_gtid: "+useGTID)
				r := start(t, l, checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO c VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO c VALUES (2)", "FLUSH BINARY LOGS")
				got := r.take(t, 2)
				require.NotEqual(t, got[0].event.File, got[1].event.File)
				for r.tok.Commit.(*gtid.Position).File == got[1].event.File {
					r.segment(t) // the empty file is a position too
				}
				tok := r.tok
				r.stop(t)
				b.exec(t, "INSERT INTO c VALUES (3)")
				r = start(t, l, reparsed(tok)).connected(t)
				require.Equal(t, []string{`c {"id":3} - {"id":3}`}, rows(t, r.take(t, 1)))
			})
		})
	}
}

func TestCompressed(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, v TEXT)")
		if b.srv.IsMariaDB() {
			b.exec(t, "SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10")
			defer b.exec(t, "SET GLOBAL log_bin_compress = OFF")
		} else {
			b.exec(t, "SET SESSION binlog_transaction_compression = ON")
		}
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "BEGIN", "INSERT INTO c VALUES (1, REPEAT('a', 5000))", "INSERT INTO c VALUES (2, REPEAT('b', 5000))",
			"UPDATE c SET v = 'short'", "DELETE FROM c WHERE id = 1", "COMMIT")
		got := r.take(t, 5)
		require.Equal(t, []string{
			`c {"id":1} - {"id":1,"v":"` + strings.Repeat("a", 5000) + `"}`,
			`c {"id":2} - {"id":2,"v":"` + strings.Repeat("b", 5000) + `"}`,
			`u {"id":1} {"id":1,"v":"` + strings.Repeat("a", 5000) + `"} {"id":1,"v":"short"}`,
			`u {"id":2} {"id":2,"v":"` + strings.Repeat("b", 5000) + `"} {"id":2,"v":"short"}`,
			`d {"id":1} {"id":1,"v":"short"} -`,
		}, rows(t, got))
		tok := r.tok
		r.stop(t)
		b.exec(t, "INSERT INTO c VALUES (3, REPEAT('c', 5000))")
		r = start(t, b.newLog(t, ""), reparsed(tok)).connected(t)
		require.Equal(t, []string{`c {"id":3} - {"id":3,"v":"` + strings.Repeat("c", 5000) + `"}`}, rows(t, r.take(t, 1)))
	})
}

func TestRowImages(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY, a INT, v TEXT)")
		r := start(t, b.newLog(t, ""), checkpoint.Token{}).connected(t)
		b.exec(t, "INSERT INTO c VALUES (1, 2, 'v')", "SET SESSION binlog_row_image = MINIMAL", "UPDATE c SET a = 3", "DELETE FROM c",
			"SET SESSION binlog_row_image = NOBLOB", "INSERT INTO c VALUES (1, 2, 'v')", "UPDATE c SET a = 3", "DELETE FROM c")
		require.Equal(t, []string{
			`c {"id":1} - {"id":1,"a":2,"v":"v"}`,
			`u {"id":1} {"id":1} {"a":3}`,
			`d {"id":1} {"id":1} -`,
			`c {"id":1} - {"id":1,"a":2,"v":"v"}`,
			`u {"id":1} {"id":1,"a":2,"v":{"_unchanged":true}} {"id":1,"a":3,"v":{"_unchanged":true}}`,
			`d {"id":1} {"id":1,"a":3,"v":{"_unchanged":true}} -`,
		}, rows(t, r.take(t, 6)))
	})
}

func TestPositionLost(t *testing.T) {
	onOwn(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		for _, gtid := range []string{"true", "false"} {
			t.Run("gtid="+gtid, func(t *testing.T) {
				b.exec(t, "TRUNCATE TABLE c")
				l := b.newLog(t, "use_gtid: "+gtid)
				r := start(t, l, checkpoint.Token{}).connected(t)
				tok := reparsed(r.tok)
				r.stop(t)
				b.exec(t, "INSERT INTO c VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO c VALUES (2)", "FLUSH BINARY LOGS")
				newest := b.purge(t)
				err := start(t, l, tok).fail(t)
				require.ErrorIs(t, err, fault.ErrPositionLost)
				require.Equal(t, fault.KindPositionLost, fault.KindOf(err))
				switch {
				case gtid == "true" && b.srv.IsMariaDB():
					require.ErrorContains(t, err, tok.Commit.String())
					require.ErrorContains(t, err, newest)
				case gtid == "true":
					require.ErrorContains(t, err, "has purged the binlog of "+r.tok.Source)
					require.ErrorContains(t, err, "it still has nothing")
				default:
					require.ErrorContains(t, err, newest)
					other := tok
					other.Source = "another"
					err = start(t, l, other).fail(t)
					require.ErrorIs(t, err, fault.ErrPositionLost)
					require.ErrorContains(t, err, "another")
					require.ErrorContains(t, err, r.tok.Source)
				}
			})
		}
	})
}

// purge removes all binlog files but the newest, and returns its name. A server keeps the files of a reader that it has not seen
// leave yet.
func (b *bench) purge(t *testing.T) (newest string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		newest, n := b.newestFile(t)
		if n == 1 {
			return newest
		}
		require.True(t, time.Now().Before(deadline), "%d files of the binlog are kept", n)
		b.exec(t, "PURGE BINARY LOGS TO '"+newest+"'")
	}
}

// newestFile returns the newest of the server's binlog files, and how many there are.
func (b *bench) newestFile(t *testing.T) (name string, n int) {
	t.Helper()
	files, err := b.sql.QueryContext(t.Context(), "SHOW BINARY LOGS")
	require.NoError(t, err)
	columns, err := files.Columns()
	require.NoError(t, err)
	row := make([]any, len(columns))
	for i := range row {
		row[i] = new(any)
	}
	row[0] = &name
	for ; files.Next(); n++ {
		require.NoError(t, files.Scan(row...))
	}
	require.NoError(t, files.Err())
	require.NoError(t, files.Close())
	return name, n
}

// TestLargeTransaction reads one transaction of 200,000 rows in bounded memory, and the events after a place in it again.
func TestLargeTransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		const n = 200_000
		b.exec(t, "CREATE TABLE c (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(100))", "CREATE TABLE ten (i INT)",
			"INSERT INTO ten VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)")
		l := b.newLog(t, "tables: {include: ['"+b.db+".c']}")
		r := start(t, l, checkpoint.Token{}).connected(t)
		from := r.tok
		var first received
		b.exec(t, "INSERT INTO c (v) SELECT REPEAT('x', 100) FROM ten a, ten b, ten c, ten d, ten e LIMIT 100000")
		b.exec(t, "BEGIN", "UPDATE c SET v = 'y'", "DELETE FROM c", "COMMIT")
		var before, peak runtime.MemStats
		runtime.ReadMemStats(&before)
		index, inserts := uint64(0), 0
		for segments := 0; index < n; segments++ {
			seg := r.segment(t)
			if seg.Rows == nil {
				continue
			}
			batch, err := seg.Rows.Decode(t.Context(), nil)
			require.NoError(t, err)
			for _, m := range batch {
				ev, ok := change.FromMessage(m)
				require.True(t, ok)
				if ev.Op == change.Create {
					if inserts++; inserts == 1 {
						first = receive(t, m)
					}
					continue
				}
				require.Equal(t, index+1, ev.Index)
				index = ev.Index
			}
			if segments%500 == 0 {
				runtime.ReadMemStats(&peak)
				require.Less(t, int64(peak.HeapAlloc)-int64(before.HeapAlloc), int64(100<<20))
			}
		}
		require.Equal(t, 100_000, inserts)
		r.stop(t)

		from = first.before(t, l, from)
		from.Sent = 99_990 // of the inserts
		again := start(t, l, reparsed(from)).connected(t)
		seg := again.segment(t)
		for seg.Rows == nil {
			seg = again.segment(t)
		}
		batch, err := seg.Rows.Decode(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, uint64(99_991), receive(t, batch[0]).event.Index)
	})
}

// TestTaggedGTIDs reads and resumes after transactions with tags, which MySQL has since 8.3.
func TestTaggedGTIDs(t *testing.T) {
	b := newBench(t, testenv.MySQL(t))
	b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
	l := b.newLog(t, "")
	r := start(t, l, checkpoint.Token{}).connected(t)
	b.exec(t, "SET SESSION gtid_next = 'AUTOMATIC:billing'", "INSERT INTO c VALUES (1)", "SET SESSION gtid_next = 'AUTOMATIC'",
		"INSERT INTO c VALUES (2)")
	got := r.take(t, 1)
	require.Regexp(t, `^[0-9a-f-]{36}:billing:\d+$`, got[0].event.Tx.ID)
	tok := reparsed(r.tok)
	require.Contains(t, tok.Commit.String(), ":billing:")
	require.Equal(t, []string{`c {"id":2} - {"id":2}`}, rows(t, r.take(t, 1)))
	r.stop(t)
	r = start(t, l, tok).connected(t)
	require.Equal(t, []string{`c {"id":2} - {"id":2}`}, rows(t, r.take(t, 1)))
}
