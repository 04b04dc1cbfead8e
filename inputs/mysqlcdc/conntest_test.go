package mysqlcdc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

func TestConnectionTest(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		tables := fmt.Sprintf("tables: {include: [%q, %q]}", b.db+".c", b.db+".%")
		require.NoError(t, b.newLog(t, tables).Test(t.Context()))

		// Beside a session that runs, and again: nothing is left behind.
		l := b.newLog(t, tables)
		r := start(t, l, checkpoint.Token{}).connected(t)
		require.NoError(t, l.Test(t.Context()))
		require.NoError(t, l.Test(t.Context()))
		b.exec(t, "INSERT INTO c VALUES (1)")
		r.take(t, 1)

		err := b.newLog(t, fmt.Sprintf("tables: {include: [%q, %q, nowhere.at_all, %q, '%%.none_of_these']}", b.db+".c", b.db+".gone", b.db+".pre%")).Test(t.Context())
		require.Equal(t, fault.KindSchema, fault.KindOf(err))
		require.EqualError(t, err, "tables.include: there is no table "+b.db+".gone: correct its name, or make it\n"+
			"tables.include: there is no table nowhere.at_all: correct its name, or make it\n"+
			"tables.include: no table that the account can see matches "+b.db+".pre%: correct it, or make such a table, or GRANT SELECT on it to the account\n"+
			"tables.include: no table that the account can see matches %.none_of_these: correct it, or make such a table, or GRANT SELECT on it to the account")

		dsn := b.account(t)
		err = newTestLog(t, dsn, b.db, tables).Test(t.Context())
		require.ErrorContains(t, err, "GRANT REPLICATION CLIENT ON *.* TO")
		require.ErrorContains(t, err, "GRANT SELECT ON `"+b.db+"`.`c` TO")
		err = newTestLog(t, strings.Replace(dsn, "pass:word", "wrong", 1), b.db, tables).Test(t.Context())
		require.Equal(t, fault.KindAuth, fault.KindOf(err), err)
		require.NotContains(t, err.Error(), "wrong")

		require.ErrorIs(t, b.newLog(t, "start: 'nothing.000001:4'\nuse_gtid: 'false'").Test(t.Context()), fault.ErrPositionLost)

		ended, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		require.Error(t, b.newLog(t, tables).Test(ended))
	})
	t.Run("binlog off", func(t *testing.T) {
		srv := testenv.StartMariaDB(t, servers.Options{NoSync: true, Args: []string{"--skip-log-bin"}})
		err := newTestLog(t, srv.UserDSN(""), "nothing", "tables: {include: [nothing.here]}").Test(t.Context())
		require.ErrorContains(t, err, "the server writes no binlog: start it with log_bin set")
		require.ErrorContains(t, err, "there is no table nothing.here")
	})
}
