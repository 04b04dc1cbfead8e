package mysqlcdc

import (
	"fmt"
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

// TestPatternsWithoutTables: a mistyped name says so at the start.
func TestPatternsWithoutTables(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE item (id INT PRIMARY KEY)")
		input := fmt.Sprintf("deltaforge_mysql: {name: orders, dsn: %q, tables: {include: [%q, %q, %q], exclude: [%q]}, checkpoint: {path: %q}}",
			b.srv.UserDSN(""), b.db+".item", b.db+".itme", b.db+".it%", b.db+".log%", filepath.Join(testenv.TempDir(t), "checkpoints.db"))
		s := testenv.RunStream(t, input)
		require.Eventually(t, func() bool { return strings.Contains(s.String(), "Reading the log") }, patience, 10*time.Millisecond)
		s.Stop()
		var warned []string
		for _, l := range s.Lines() {
			if strings.Contains(l.Msg, "no table that") {
				warned = append(warned, l.Msg)
			}
		}
		const then = ". If the name is right, make the table: it is captured from then on"
		require.Equal(t, []string{
			"tables.include: no table that the account can see matches " + b.db + ".itme" + then,
			"tables.exclude: no table that the account can see matches " + b.db + ".log%",
		}, warned)
	})
}

// TestWithheldDatabase: a server can keep the changes of a database out of its log.
func TestWithheldDatabase(t *testing.T) {
	onServers := map[string]func(t *testing.T, o servers.Options) *testenv.MySQLServer{
		"mysql":   func(t *testing.T, o servers.Options) *testenv.MySQLServer { return testenv.StartMySQL(t, o) },
		"mariadb": func(t *testing.T, o servers.Options) *testenv.MySQLServer { return testenv.StartMariaDB(t, o) },
	}
	for name, server := range onServers {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, server(t, servers.Options{NoSync: true, Args: []string{"--binlog-ignore-db=hidden"}}))
			b.exec(t, "CREATE DATABASE hidden", "CREATE TABLE hidden.t (id INT PRIMARY KEY)", "CREATE TABLE c (id INT PRIMARY KEY)")
			err := b.newLog(t, "tables: {include: ['hidden.t']}").Test(t.Context())
			require.Equal(t, fault.KindOther, fault.KindOf(err))
			require.ErrorContains(t, err, "tables.include: hidden.t: the server does not log changes of database hidden (binlog-ignore-db = hidden)")
			start(t, b.newLog(t, "tables: {include: ['%.c']}"), checkpoint.Token{}).connected(t)
			err = start(t, b.newLog(t, "tables: {include: ['hidden.%']}"), checkpoint.Token{}).fail(t)
			require.ErrorContains(t, err, "the server does not log changes of database hidden")
		})
	}
}
