package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// losses are the ways in which a server may lose what comes after a position, on servers of their own where others would feel it.
func losses(t *testing.T) map[string]func(t *testing.T) (source, []string) {
	t.Helper()
	own := func(srv *testenv.MySQLServer, lose ...string) func(t *testing.T) (source, []string) {
		return func(t *testing.T) (source, []string) { return mysqlSource(t, srv), lose }
	}
	return map[string]func(t *testing.T) (source, []string){
		"mysql, reset": func(t *testing.T) (source, []string) {
			return own(testenv.StartMySQL(t, servers.Options{NoSync: true}), "RESET BINARY LOGS AND GTIDS")(t)
		},
		"mariadb, reset": func(t *testing.T) (source, []string) {
			return own(testenv.StartMariaDB(t, servers.Options{NoSync: true}), "RESET MASTER")(t)
		},
		"postgres, slot dropped": func(t *testing.T) (source, []string) {
			src := postgresSource(t, testenv.Postgres(t))
			return src, []string{"SELECT pg_drop_replication_slot('" + src.slot + "')"}
		},
	}
}

func saved(t *testing.T, p *process) string {
	t.Helper()
	at, _ := savedPosition(t, p)
	return at
}

// The log loses what the source has not read, and the process is killed again and again while it begins anew and loads the tables once more, under load. Every row
// comes with its newest state. All that is left over are rows that were deleted where nobody could see it.
func TestLostPositionIsLoadedAgain(t *testing.T) {
	binary(t)
	for name, open := range losses(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			src, lose := open(t)
			src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 1500, max_parallel_chunks: 3}\n    on_position_lost: snapshot", 1)
			dst := kafkaSink(t, testenv.Kafka(t), 1)
			w := src.workload(t)
			w.fill("")
			p := newProcess(t, src.input+dst.output)
			p.start()
			eventually(t, patience, "the end of the load", func() bool { return strings.Contains(p.log.String(), "is done:") })
			p.stop()

			for _, q := range []string{
				"DELETE FROM accounts WHERE id < 500", "UPDATE accounts SET note = 'changed unseen' WHERE id BETWEEN 500 AND 999",
				"INSERT INTO accounts (id, version, note, amount) VALUES (1000000, 1, 'made unseen', 1.00)",
			} {
				_, err := src.db.ExecContext(t.Context(), q)
				require.NoError(t, err)
			}
			for _, q := range lose {
				_, err := src.db.ExecContext(t.Context(), q)
				require.NoError(t, err)
			}
			before, _ := savedPosition(t, p)
			p.start()
			r := rand.New(rand.NewPCG(2, uint64(len(name))))
			for n := range 7 {
				wait := time.Duration(r.IntN(400)) * time.Millisecond
				switch {
				case n < 1: // when it has not given up yet
				case n < 3: // while it does, which it has to do again after the kill
					begun := strings.Count(p.log.String(), "is given up")
					eventually(t, patience, "a new beginning", func() bool { return strings.Count(p.log.String(), "is given up") > begun || saved(t, p) != before })
					wait /= 4
				case n == 3: // what is deleted from here on is seen
					eventually(t, patience, "a new position", func() bool { return saved(t, p) != before })
					w.churn(4)
				}
				time.Sleep(wait)
				p.kill()
				p.start()
			}
			done := strings.Count(p.log.String(), "is done:")
			eventually(t, patience, "the end of the second load", func() bool {
				return done > 1 || strings.Count(p.log.String(), "is done:") > 1
			})
			w.end()
			w.sentinel()
			eventually(t, patience, "the last row", func() bool { return complete(dst.all(t)) })
			p.stop()
			o := replay(t, dst.all(t))
			assert.Empty(t, o.older)
			want := w.contents()
			left := 0
			for id := range o.state {
				if _, there := want[id]; !there && id < 500 {
					delete(o.state, id)
					left++
				}
			}
			assert.Len(t, o.state, len(want))
			for id, a := range want {
				require.Equal(t, a, o.state[id])
			}
			assert.Positive(t, left, "rows that were deleted unseen stay")
			assert.Contains(t, p.log.String(), "on_position_lost: snapshot")
		})
	}
}
