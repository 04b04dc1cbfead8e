package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A load holds nothing while the sink is away: what it has read waits in memory, no transaction is open, and the table can be altered.
func TestALoadHoldsNothing(t *testing.T) {
	longLoads(t)
	binary(t)
	for name, open := range sources(t) {
		t.Run(name, func(t *testing.T) {
			src := open(t)
			src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {chunk_rows: 1000}", 1)
			src.workload(t).fill("")
			p := newProcess(t, src.input+"\npipeline: {processors: [{sleep: {duration: 1h}}]}\noutput: {drop: {}}\n")
			p.start()
			eventually(t, patience, "rows that are read", func() bool {
				read, _ := p.metric("deltaforge_snapshot_rows_total", "table", src.full)
				return read > 0
			})
			conn, err := src.db.Conn(t.Context())
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			bounded := "SET SESSION lock_wait_timeout = 30"
			if src.slot != "" {
				bounded = "SET lock_timeout = '30s'"
			}
			for _, q := range []string{bounded, "ALTER TABLE accounts ADD COLUMN more INT"} {
				_, err = conn.ExecContext(t.Context(), q)
				require.NoError(t, err, q)
			}
			assert.NotContains(t, p.log.String(), "is done:", "the load was to be under way")
			p.kill()
		})
	}
}
