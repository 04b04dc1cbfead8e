package coordinator

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/change"
)

// TestMarkers reads a log with begins and ends of transactions over sessions that fail and inputs that are closed anywhere. Each comes once, in
// its place, and an end has all events of its transaction, also of those that were delivered before a restart.
func TestMarkers(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { followMarkers(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func followMarkers(t *testing.T, r *rand.Rand) {
	log := &fakeLog{t: t, txs: randomTxs(r, 25), r: rand.New(rand.NewPCG(r.Uint64(), 2)), faults: 20 + r.IntN(100), silent: true}
	var want, got []string
	for n, tx := range log.txs {
		var rows []string
		for _, row := range tx {
			if !row.filtered {
				rows = append(rows, fmt.Sprintf("tx%d:%d", n+1, row.at.sent))
			}
		}
		if len(rows) == 0 {
			continue
		}
		want = append(append(want, fmt.Sprintf("tx%d:begin BEGIN null null", n+1)), rows...)
		want = append(want, fmt.Sprintf(`tx%d:end END %d [{"data_collection":"db.t","event_count":%d}]`, n+1, len(rows), len(rows)))
	}
	cfg := Config{MaxEvents: 1 + r.IntN(8), MaxWait: time.Millisecond, RespectTx: r.IntN(2) == 0, MaxInFlight: 1, Transactions: true, Decoders: 1 + r.IntN(3)}
	for store := newMemStore(); len(got) < len(want); {
		in := newTestInput(t, cfg, log, store, nil)
		for range 1 + r.IntN(6) {
			for in.Connect(t.Context()) != nil {
				time.Sleep(time.Second)
			}
			batch, ack, err := in.ReadBatch(t.Context())
			if err != nil {
				continue
			}
			if r.IntN(5) == 0 { // it is never answered
				break
			}
			for _, m := range batch {
				ev, ok := change.Own(m)
				require.True(t, ok)
				line := string(ev.AppendID(nil))
				if ev.Marker != change.NoMarker {
					line += fmt.Sprintf(" %s %s %s", shown(ev.After()[change.TransactionStatus]), shown(ev.After()[change.TransactionCount]), shown(ev.After()[change.TransactionTables]))
				}
				got = append(got, line)
			}
			require.NoError(t, ack(t.Context(), nil))
			if len(got) >= len(want) {
				break
			}
		}
		require.NoError(t, in.Close(t.Context()))
	}
	assert.Equal(t, want, got)
}

// shown is a value of a marker as text.
func shown(v change.Value) string {
	switch v.Kind() {
	case change.Null:
		return "null"
	case change.Int:
		return fmt.Sprint(v.Int())
	default:
		return string(v.Bytes())
	}
}
