package mysqlcdc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestForeignKeysThatChangeRows: where a server does not log the rows that its foreign keys change, the source says so when it starts; where
// it logs them, they come.
func TestForeignKeysThatChangeRows(t *testing.T) {
	test := func(logged bool) func(t *testing.T, b *bench) {
		return func(t *testing.T, b *bench) {
			b.exec(t, "CREATE TABLE parent (id INT PRIMARY KEY)",
				"CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT gone FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL)",
				"CREATE TABLE other (id INT PRIMARY KEY, p INT, CONSTRAINT stays FOREIGN KEY (p) REFERENCES parent (id))",
				"CREATE TABLE aside (id INT PRIMARY KEY, p INT, CONSTRAINT moved FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
				"INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (2, 1)")
			lines, err := b.delivered(t, "", nil, []string{"DELETE FROM parent"})
			require.NoError(t, err)
			require.Equal(t, logged, strings.Contains(strings.Join(lines, "\n"), `d child {"id":2,"p":1} -`), "%q", lines)

			input := fmt.Sprintf("deltaforge_mysql: {name: orders, dsn: %q, tables: {include: [%q], exclude: [%q]}, snapshot: {mode: never}, checkpoint: {path: %q}}",
				b.srv.UserDSN(""), b.db+".*", b.db+".aside", filepath.Join(testenv.TempDir(t), "checkpoints.db"))
			s := testenv.RunStream(t, input)
			require.Eventually(t, func() bool { return strings.Contains(s.String(), "Reading the log") }, patience, 10*time.Millisecond)
			s.Stop()
			var warned []string
			for _, l := range s.Lines() {
				if strings.Contains(l.Msg, "foreign key") {
					warned = append(warned, l.Msg)
				}
			}
			if logged {
				require.Empty(t, warned)
				return
			}
			require.Equal(t, []string{"Table " + b.db + ".child: its foreign key gone changes rows when those of parent change (ON DELETE CASCADE, ON UPDATE SET NULL), " +
				"and the server does not log that: these changes are delivered by nobody. Let the application or a trigger of parent make them"}, warned)
		}
	}
	t.Run("mysql", func(t *testing.T) { test(true)(t, newBench(t, testenv.MySQL(t))) })
	t.Run("mysql as before 9.6", func(t *testing.T) {
		test(false)(t, newBench(t, testenv.StartMySQL(t, servers.Options{NoSync: true, Args: []string{"--innodb-native-foreign-keys=ON"}})))
	})
	t.Run("mariadb", func(t *testing.T) { test(false)(t, newBench(t, testenv.MariaDB(t))) })
}

// TestReplicaThatLogsNothing: a replica need not log what it applies, and a MariaDB does not unless it is told to. A source that reads there
// would see nothing, and hear of no fault.
func TestReplicaThatLogsNothing(t *testing.T) {
	for name, start2 := range map[string]func(t *testing.T, args ...string) *testenv.MySQLServer{
		"mysql": func(t *testing.T, args ...string) *testenv.MySQLServer {
			return testenv.StartMySQL(t, servers.Options{NoSync: true, Args: args})
		},
		"mariadb": func(t *testing.T, args ...string) *testenv.MySQLServer {
			return testenv.StartMariaDB(t, servers.Options{NoSync: true, Args: args})
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "mysql" && os.Getenv("DELTAFORGE_TEST_LONG") == "" {
				t.Skip("two servers more, for what is no default there: set DELTAFORGE_TEST_LONG")
			}
			primary, replica := newBench(t, start2(t)), newBench(t, start2(t, "--server-id=2", "--log-slave-updates=OFF"))
			start(t, replica.newLog(t, ""), checkpoint.Token{}).connected(t).stop(t) // it replicates nothing
			replica.replicate(t, primary)
			primary.exec(t, "CREATE TABLE t (id INT PRIMARY KEY)")
			replica.caughtUp(t, primary)
			l := newTestLog(t, replica.srv.UserDSN(""), primary.db, "")
			for _, err := range []error{l.Test(t.Context()), start(t, l, checkpoint.Token{}).fail(t)} {
				require.Equal(t, fault.KindOther, fault.KindOf(err))
				require.ErrorContains(t, err, "the server is a replica, and what it applies as a replica is not in its binlog, because log_slave_updates is OFF: "+
					"nothing of that can be delivered. Set log_slave_updates = ON in its configuration and start it again, or read from its primary")
			}
			replica.exec(t, "STOP REPLICA") // as after a promotion: from here on it writes by itself
			start(t, l, checkpoint.Token{}).connected(t)
		})
	}
}
