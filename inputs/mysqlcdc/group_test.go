package mysqlcdc

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/recorded"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestIncompleteGroup: a MariaDB that dies while it writes a transaction leaves a part of it at the end of the file, and gives its GTID to
// another one.
func TestIncompleteGroup(t *testing.T) {
	srv := testenv.StartMariaDB(t, servers.Options{NoSync: true, Args: []string{"--max-allowed-packet=64M"}})
	for _, c := range []struct {
		name, rows string
		cut        int // of the event before the last, too
	}{
		{"small", "INSERT INTO t VALUES (2, ''), (3, '')", 0},
		{"inside an event", "INSERT INTO t VALUES (2, ''), (3, '')", 10},
		{"large", "INSERT INTO t VALUES (2, REPEAT('x', 3000000)), (3, REPEAT('y', 3000000)), (4, REPEAT('z', 3000000))", 0},
		{"large, inside an event", "INSERT INTO t VALUES (2, REPEAT('x', 3000000)), (3, REPEAT('y', 3000000)), (4, REPEAT('z', 3000000))", 10},
	} {
		for _, yaml := range []string{"use_gtid: 'true'", "use_gtid: 'false'"} {
			t.Run(c.name+" "+yaml, func(t *testing.T) {
				b := newBench(t, srv)
				b.exec(t, "CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)", "CREATE TABLE "+endMark+" (id INT AUTO_INCREMENT PRIMARY KEY)")
				l := b.newLog(t, yaml)
				r := start(t, l, checkpoint.Token{}).connected(t)
				b.exec(t, "INSERT INTO t VALUES (1, '')")
				r.take(t, 1)
				tok := r.tok
				r.stop(t)
				b.exec(t, "BEGIN", c.rows, "UPDATE t SET id = id + 10", "COMMIT")
				cutXID(t, srv, c.cut)
				b = &bench{srv: srv, db: b.db, sql: must(srv.DB(t, b.db).Conn(t.Context()))}
				defer b.sql.Close()
				b.exec(t, "INSERT INTO t VALUES (5, '')", "INSERT INTO "+endMark+" () VALUES ()")
				lines, err := start(t, l, reparsed(tok)).untilEnd(t)
				require.NoError(t, err)
				require.Equal(t, []string{`c t - {"id":5,"v":""}`}, lines)
			})
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// cutXID kills a server, cuts the last event off the log, which is the end of a transaction, and some bytes more, and starts it again.
func cutXID(t *testing.T, srv *testenv.MySQLServer, more int) {
	t.Helper()
	require.NoError(t, srv.Kill())
	files, err := filepath.Glob(filepath.Join(srv.Dir(), "data", "bin.0*"))
	require.NoError(t, err)
	if len(files) == 0 {
		files, err = filepath.Glob(filepath.Join(srv.Dir(), "bin.0*"))
		require.NoError(t, err)
	}
	require.NotEmpty(t, files)
	file := slices.Max(files)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	events := recorded.Split(data[4:])
	last := events[len(events)-1]
	require.Equal(t, replication.XID_EVENT, recorded.Kind(last))
	require.NoError(t, os.Truncate(file, int64(len(data)-len(last)-more)))
	require.NoError(t, srv.Start(t.Context()))
}
