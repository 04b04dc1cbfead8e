package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// owned is a source on a server of its own, which may be restarted, behind a proxy.
type owned struct {
	source
	proxy   *testenv.Proxy
	restart func() error
}

func ownMySQL(t *testing.T, srv *testenv.MySQLServer) *owned {
	t.Helper()
	o := &owned{source: mysqlSource(t, srv), proxy: testenv.NewProxy(t, srv.Addr()), restart: func() error { return srv.Restart(t.Context()) }}
	dsn, err := mysql.ParseDSN(srv.UserDSN(""))
	require.NoError(t, err)
	o.input = strings.Replace(o.input, dsn.Addr, o.proxy.Addr(), 1)
	o.input = strings.Replace(o.input, "    snapshot:", "    heartbeat_interval: 200ms\n    read_timeout: 5s\n    snapshot:", 1)
	return o
}

func ownPostgres(t *testing.T) *owned {
	t.Helper()
	srv := testenv.StartPostgres(t, servers.Options{NoSync: true})
	o := &owned{source: postgresSource(t, srv), proxy: testenv.NewProxy(t, srv.Addr()), restart: func() error { return srv.Restart(t.Context()) }}
	o.input = strings.Replace(o.input, srv.Addr(), o.proxy.Addr(), 1)
	o.input = strings.Replace(o.input, "    snapshot:", "    status_interval: 200ms\n    read_timeout: 5s\n    snapshot:", 1)
	return o
}

// Under load the way to the database, and then that to the sink, is cut, silent, late and narrow; then the database is restarted. Each change is delivered once, in the
// order of its row.
func TestConnectionFaults(t *testing.T) {
	for n, open := range []func(t *testing.T) *owned{
		func(t *testing.T) *owned { return ownMySQL(t, testenv.StartMySQL(t, servers.Options{NoSync: true})) },
		ownPostgres,
		func(t *testing.T) *owned { return ownMySQL(t, testenv.StartMariaDB(t, servers.Options{NoSync: true})) },
	} {
		t.Run([]string{"mysql", "postgres", "mariadb"}[n], func(t *testing.T) {
			part(t, 3+n)
			binary(t)
			src := open(t)
			redis := testenv.Redis(t)
			toSink := testenv.NewProxy(t, redis.Addr())
			dst := redisSink(t, redis)
			dst.output = strings.Replace(dst.output, redis.Addr(), toSink.Addr(), 1) + "    exactly_once: true\n    timeout: 3s\n    max_buffered_bytes: 4096\n"
			w := src.workload(t)
			p := newProcess(t, strings.Replace(src.input, "    snapshot:", "    checkpoint: {exactly_once: true}\n    snapshot:", 1)+dst.output)
			p.start()
			awaitKept(t, p)
			w.run(4, 5*time.Millisecond)
			delivers := func(what string) {
				t.Helper()
				before := len(dst.all(t))
				eventually(t, patience, "more delivered "+what, func() bool { return len(dst.all(t)) > before })
			}
			count := func(name string) float64 { v, _ := p.metric(name); return v }
			for name, way := range map[string]*testenv.Proxy{"deltaforge_source_reconnects_total": src.proxy, "deltaforge_sink_reconnects_total": toSink} {
				way.Slow(200*time.Millisecond, 0)
				delivers("with latency: " + name)
				way.Slow(0, 10_000)
				delivers("slowly: " + name)
				way.Pass()
				before := count(name)
				way.Cut()
				eventually(t, patience, "another connection after a reset: "+name, func() bool { return count(name) > before })
				before = count(name)
				silences := func() int { return strings.Count(p.log.String(), "timeout") }
				noticed := silences()
				way.Blackhole()
				eventually(t, patience, "the silence noticed: "+name, func() bool { return silences() > noticed })
				way.Pass()
				eventually(t, patience, "another connection after a silence: "+name, func() bool { return count(name) > before })
				delivers("again: " + name)
			}
			w.end()
			require.NoError(t, src.restart())
			w.base = 100_000
			w.run(4, 5*time.Millisecond)
			w.end()
			a := finish(t, w, dst, patience)
			assert.Zero(t, a.again, "events delivered again")
			p.stop()
		})
	}
}

// TestConnectionFaults for the way to Kafka: the broker tells its clients to come by the proxy.
func TestBrokerConnectionFaults(t *testing.T) {
	part(t, 1)
	binary(t)
	way := testenv.NewProxy(t, "127.0.0.1:1")
	broker := testenv.StartKafka(t, servers.Options{Through: way.Addr()})
	way.Redirect(broker.ThroughAddr())
	src, dst := mysqlSource(t, testenv.MySQL(t)), kafkaSink(t, broker, 3)
	output := strings.Replace(dst.output, strings.Join(broker.Brokers(), ","), way.Addr(), 1)
	require.NotEqual(t, dst.output, output)
	dst.output = output + "    exactly_once: true\n    timeout: 5s\n"
	w := src.workload(t)
	p := newProcess(t, strings.Replace(src.input, "    snapshot:", "    checkpoint: {exactly_once: true}\n    batch: {max_events: 20}\n    snapshot:", 1)+dst.output)
	p.start()
	awaitKept(t, p)
	w.run(2, 15*time.Millisecond)
	delivers := func(what string) {
		t.Helper()
		before := dst.count(t)
		eventually(t, patience, "more delivered "+what, func() bool { return dst.count(t) > before+20 }) // more than ends of transactions
	}
	fails := func(what string) {
		t.Helper()
		before, _ := p.metric("deltaforge_sink_failures_total")
		eventually(t, patience, what+" noticed", func() bool {
			v, _ := p.metric("deltaforge_sink_failures_total")
			return v > before
		})
	}
	delivers("before any fault")
	way.Slow(200*time.Millisecond, 0)
	delivers("with latency")
	way.Slow(0, 10_000)
	delivers("slowly")
	way.Pass()
	for range 3 {
		way.Cut()
		delivers("after a reset")
	}
	way.Refuse()
	fails("that the broker cannot be reached")
	way.Pass()
	delivers("after the broker could not be reached")
	way.Blackhole()
	fails("the silence")
	way.Pass()
	delivers("after a silence")
	w.end()
	a := finish(t, w, dst, patience)
	assert.Zero(t, a.again, "events delivered again")
	p.stop()
}

// The widest table and a row of 64 MiB go through.
func TestLimits(t *testing.T) {
	part(t, 6)
	binary(t)
	for name, c := range map[string]struct {
		open    func(t *testing.T) source
		columns int
		big     string
	}{
		"mysql": {
			func(t *testing.T) source {
				return mysqlSource(t, testenv.StartMySQL(t, servers.Options{NoSync: true, Args: []string{"--max-allowed-packet=256M", "--innodb-redo-log-capacity=1G"}}))
			},
			1017, "LONGTEXT",
		},
		"postgres": {func(t *testing.T) source { return postgresSource(t, testenv.Postgres(t)) }, 1600, "TEXT"},
	} {
		t.Run(name, func(t *testing.T) {
			src := c.open(t)
			exec := func(q string) {
				t.Helper()
				_, err := src.db.ExecContext(t.Context(), q)
				require.NoError(t, err, "%.100s", q)
			}
			columns := []string{"id INT PRIMARY KEY"}
			values := []string{"1"}
			for n := 1; n < c.columns; n++ {
				columns = append(columns, fmt.Sprintf("c%d INT", n))
				values = append(values, fmt.Sprint(n))
			}
			exec("CREATE TABLE wide (" + strings.Join(columns, ", ") + ")")
			exec("CREATE TABLE big (id INT PRIMARY KEY, v " + c.big + ")")
			if src.slot != "" {
				exec("ALTER TABLE wide OWNER TO " + servers.User)
				exec("ALTER TABLE big OWNER TO " + servers.User)
			}
			p := newProcess(t, src.input+"\noutput:\n  file: {path: out.jsonl, codec: lines}\n")
			p.start()
			awaitSaved(t, p)
			exec("INSERT INTO wide VALUES (" + strings.Join(values, ", ") + ")")
			exec("INSERT INTO big VALUES (1, REPEAT('x', 67108864))")
			var lines []string
			eventually(t, patience, "both rows\n"+tail(p.log.String(), 1000), func() bool {
				text, _ := os.ReadFile(filepath.Join(p.dir, "out.jsonl"))
				lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
				return strings.Count(string(text), "\n") == 2
			})
			assert.Contains(t, lines[0], `"c1":1,"c2":2,`)
			assert.Contains(t, lines[0], fmt.Sprintf(`,"c%d":%d}`, c.columns-1, c.columns-1))
			assert.Contains(t, lines[1], `{"id":1,"v":"`+strings.Repeat("x", 64<<20)+`"}`)
			p.stop()
			require.NoError(t, os.Remove(filepath.Join(p.dir, "out.jsonl")))
		})
	}
}
