package mysqlcdc

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A source that is pointed to a replica, or whose address is given to one while it streams, goes on exactly where the primary was read up to;
// where the replica lacks something that was delivered, the position is lost, and so is a place in the files of the primary.
func TestFailOver(t *testing.T) {
	t.Run("mysql", func(t *testing.T) {
		failOver(t, testenv.StartMySQL(t, servers.Options{NoSync: true}),
			testenv.StartMySQL(t, servers.Options{NoSync: true, Args: []string{"--server-id=2"}}))
	})
	t.Run("mariadb", func(t *testing.T) {
		failOver(t, testenv.StartMariaDB(t, servers.Options{NoSync: true}),
			testenv.StartMariaDB(t, servers.Options{NoSync: true, Args: []string{"--server-id=2", "--log-slave-updates=ON"}}))
	})
}

// replicate makes a server a replica of another one. What the primary has done so far, such as making its accounts, the replica has done
// by itself.
func (b *bench) replicate(t *testing.T, primary *bench) {
	t.Helper()
	host, port, err := net.SplitHostPort(primary.srv.Addr())
	require.NoError(t, err)
	if b.srv.IsMariaDB() {
		b.exec(t, "RESET MASTER", "SET GLOBAL gtid_slave_pos = '"+primary.query(t, "SELECT @@GLOBAL.gtid_binlog_pos")+"'",
			"SET SESSION sql_log_bin = 0", "CREATE DATABASE `"+primary.db+"`", "SET SESSION sql_log_bin = 1",
			fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %s, MASTER_USER = '%s', MASTER_PASSWORD = '%s', MASTER_USE_GTID = slave_pos",
				host, port, servers.User, servers.Password),
			"START REPLICA")
		return
	}
	b.exec(t, "RESET BINARY LOGS AND GTIDS",
		"SET GLOBAL gtid_purged = '"+primary.query(t, "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')")+"'",
		"SET SESSION sql_log_bin = 0", "CREATE DATABASE `"+primary.db+"`", "SET SESSION sql_log_bin = 1",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %s, SOURCE_USER = '%s', SOURCE_PASSWORD = '%s', "+
			"SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1", host, port, servers.User, servers.Password),
		"START REPLICA")
}

// caughtUp waits until a replica has everything.
func (b *bench) caughtUp(t *testing.T, primary *bench) {
	t.Helper()
	if b.srv.IsMariaDB() {
		require.Equal(t, "0", b.query(t, "SELECT MASTER_GTID_WAIT('"+primary.query(t, "SELECT @@GLOBAL.gtid_binlog_pos")+"', 60)"), "the replica has it all")
		return
	}
	set := primary.query(t, "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')")
	require.Equal(t, "0", b.query(t, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+set+"', 60)"), "the replica has it all")
}

func failOver(t *testing.T, old, srv *testenv.MySQLServer) {
	primary := newBench(t, old)
	conn, err := srv.DB(t, "").Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	replica := &bench{srv: srv, db: primary.db, sql: conn}
	replica.replicate(t, primary)
	primary.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
	replica.caughtUp(t, primary)
	w := &world{b: primary}
	exactly := &follower{log: primary.newLog(t, "server_id: 301")}
	ahead := &follower{log: primary.newLog(t, "server_id: 302")}
	// These two are not stopped: their address is given to the replica.
	address := testenv.NewProxy(t, primary.srv.Addr())
	through := func(yaml string) *follower {
		return &follower{log: newTestLog(t, strings.ReplaceAll(primary.srv.UserDSN(""), primary.srv.Addr(), address.Addr()), primary.db, yaml)}
	}
	streaming, streamingPlace := through("server_id: 303"), through("server_id: 304\nuse_gtid: false")
	place := &follower{log: primary.newLog(t, "server_id: 305\nuse_gtid: false")}
	source := ""
	for _, f := range []*follower{exactly, ahead, streaming, streamingPlace, place} {
		f.run = start(t, f.log, checkpoint.Token{})
		source = f.run.segment(t).Source
	}
	require.NotEmpty(t, source)
	w.insert(t, 5)
	require.NoError(t, exactly.follow(t, w.want))
	exactly.run.stop(t)
	w.insert(t, 3) // nobody but the replica reads these before the primary is gone
	replica.caughtUp(t, primary)
	common := append([]string{}, w.want...)
	for _, f := range []*follower{streaming, streamingPlace, place} {
		require.NoError(t, f.follow(t, common))
	}
	place.run.stop(t)
	replica.exec(t, "STOP REPLICA")
	address.Redirect(srv.Addr())
	w.insert(t, 1) // this the replica never gets
	require.NoError(t, ahead.follow(t, w.want))
	ahead.run.stop(t)
	require.NoError(t, primary.srv.Kill())

	now := &world{b: replica, rows: 100}
	replica.exec(t, "USE `"+primary.db+"`")
	now.insert(t, 4)
	for i, f := range []*follower{exactly, ahead} {
		f.log = newTestLog(t, srv.UserDSN(""), primary.db, fmt.Sprintf("server_id: %d", 306+i))
		f.run.tok.Source = source // as the coordinator saves it
	}
	exactly.restart(t)
	want := append(common, now.want...)
	require.NoError(t, exactly.follow(t, want))
	require.Equal(t, want, exactly.got)
	exactly.run.stop(t)
	require.NoError(t, streaming.follow(t, want))
	require.Equal(t, want, streaming.got)
	streaming.run.stop(t)
	ahead.restart(t)
	place.log = newTestLog(t, srv.UserDSN(""), primary.db, "server_id: 308\nuse_gtid: false")
	place.run.tok.Source = source
	place.restart(t)
	for f, got := range map[*follower][]string{ahead: w.want, place: common, streamingPlace: common} {
		require.ErrorIs(t, f.follow(t, make([]string, 1000)), fault.ErrPositionLost)
		require.Equal(t, got, f.got, "and nothing after it")
	}
}
