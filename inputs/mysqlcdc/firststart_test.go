package mysqlcdc

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestFirstStartInsideDDL: a first start while a statement is in the log and its table has not changed yet. MySQL can be made to be slow
// in between.
func TestFirstStartInsideDDL(t *testing.T) {
	srv := testenv.StartMySQL(t, servers.Options{Args: []string{"--sync-binlog=1"}})
	for _, yaml := range []string{"use_gtid: 'true'", "use_gtid: 'false'"} {
		t.Run(yaml, func(t *testing.T) {
			b := newBench(t, srv)
			b.exec(t, "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)", "CREATE TABLE "+endMark+" (id INT AUTO_INCREMENT PRIMARY KEY)")
			before := b.position(t)
			b.exec(t, "SET GLOBAL binlog_group_commit_sync_delay = 1000000")
			defer b.exec(t, "SET GLOBAL binlog_group_commit_sync_delay = 0")
			done := make(chan error, 1)
			go func() {
				_, err := b.sql.ExecContext(t.Context(), "ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a")
				done <- err
			}()
			other, err := srv.DB(t, b.db).Conn(t.Context())
			require.NoError(t, err)
			defer other.Close()
			b2 := &bench{srv: srv, db: b.db, sql: other}
			require.Eventually(t, func() bool { return b2.position(t) != before }, patience, time.Millisecond)
			r := start(t, b.newLog(t, yaml), checkpoint.Token{}).connected(t)
			require.NoError(t, <-done)
			b.exec(t, "SET GLOBAL binlog_group_commit_sync_delay = 0", "INSERT INTO t (id, a, b) VALUES (1, 10, 20)", "INSERT INTO "+endMark+" () VALUES ()")
			lines, err := r.untilEnd(t)
			require.NoError(t, err)
			require.Equal(t, []string{`c t - {"id":1,"b":20,"a":10}`}, lines)
		})
	}
}

// position asks for the place where the log of a MySQL ends.
func (b *bench) position(t *testing.T) string {
	t.Helper()
	var file, pos string
	var skip sql.RawBytes
	rows, err := b.sql.QueryContext(t.Context(), "SHOW BINARY LOG STATUS")
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&file, &pos, &skip, &skip, &skip))
	return file + ":" + pos
}
