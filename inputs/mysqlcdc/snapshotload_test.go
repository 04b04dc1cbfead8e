package mysqlcdc

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestSnapshotOfAnIdleServer: tables are loaded from a server on which nothing happens, and whose log goes on in a new file that has no
// transaction.
func TestSnapshotOfAnIdleServer(t *testing.T) {
	none := servers.Options{NoSync: true}
	for name, server := range map[string]func(t *testing.T) *testenv.MySQLServer{
		"mysql":   func(t *testing.T) *testenv.MySQLServer { t.Helper(); return testenv.StartMySQL(t, none) },
		"mariadb": func(t *testing.T) *testenv.MySQLServer { t.Helper(); return testenv.StartMariaDB(t, none) },
		"mysql without GTIDs": func(t *testing.T) *testenv.MySQLServer {
			t.Helper()
			return testenv.StartMySQL(t, servers.Options{NoSync: true, Args: []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, server(t))
			b.exec(t, "CREATE TABLE item (id INT PRIMARY KEY)", "INSERT INTO item SELECT i FROM "+b.series(t, 2500)+" n", "DROP TABLE series",
				"CREATE TABLE keyless (a INT)", "INSERT INTO keyless VALUES (1), (1), (2)", "CREATE TABLE hollow (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
			input := fmt.Sprintf("deltaforge_mysql: {name: orders, dsn: %q, tables: {include: [%q]}, checkpoint: {path: %q}, snapshot: {chunk_rows: 1000}, heartbeat_interval: 100ms}",
				b.srv.UserDSN(""), b.db+".*", filepath.Join(testenv.TempDir(t), "checkpoints.db"))
			s := testenv.RunStream(t, input)
			require.Eventually(t, func() bool { return s.Rows() >= 2503 }, patience, 10*time.Millisecond, "%v", s)
			b.exec(t, "INSERT INTO hollow VALUES (1)")
			require.Eventually(t, func() bool { return s.Rows() >= 2504 }, patience, 10*time.Millisecond, "%v", s)
			s.Stop()
			require.Equal(t, 2504, s.Rows())
		})
	}
}
