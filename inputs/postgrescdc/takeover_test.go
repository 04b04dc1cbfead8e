package postgrescdc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
)

func TestOffset(t *testing.T) {
	for text, inside := range map[string]bool{
		`{"lsn":40,"lsn_proc":40,"lsn_commit":30,"messageType":"INSERT","txId":7}`: true,
		`{"lsn":40,"lsn_proc":40,"lsn_commit":40,"messageType":"INSERT","txId":7}`: false,
		`{"lsn":40,"lsn_proc":40,"lsn_commit":40,"messageType":"COMMIT","txId":7}`: false,
		`{"lsn":40,"lsn_proc":40,"lsn_commit":30,"messageType":"BEGIN","txId":7}`:  false,
		`{"lsn":40,"snapshot":true,"last_snapshot_record":true}`:                   false,
		`{"lsn":40,"snapshot":"INITIAL","last_snapshot_record":true}`:              false,
	} {
		o, err := parseOffset([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, inside, o.inside(), text)
	}
	for text, want := range map[string]string{
		`{"file":"b.1","pos":4}`:                                 "the offset is not one of a connector for PostgreSQL: it has no lsn",
		`{"lsn":4,"snapshot":true,"last_snapshot_record":false}`: "the connector was in its snapshot: let it end, or start DeltaForge without an import and let it load the tables",
	} {
		_, err := parseOffset([]byte(text))
		assert.EqualError(t, err, want)
	}
}

// TestTakeOverRefused: an offset that does not fit the server or the slot is refused, and so is a slot that is in use.
func TestTakeOverRefused(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE t (id int PRIMARY KEY)")
	r, _ := d.source("")
	_, err := r.TakeOver(t.Context(), []byte(`{"lsn":9000000000000000000}`))
	require.ErrorContains(t, err, "the offset is at 7CE66C50/E2840000, and the server's log ends at ")
	_, err = r.TakeOver(t.Context(), []byte(`{"lsn":1}`))
	require.ErrorContains(t, err, "slot: there is no slot "+r.cfg.slot+" in the database "+d.name+": set slot to the connector's slot.name")
	s := d.run(r, checkpoint.Token{})
	_, err = r.TakeOver(t.Context(), []byte(`{"lsn":1}`))
	require.ErrorContains(t, err, "slot: "+r.cfg.slot+" is in use: stop the connector")
	d.exec("INSERT INTO t VALUES (1)")
	s.events(1)
	s.close()
	require.Eventually(t, func() bool {
		return d.queryText("SELECT active::text FROM pg_replication_slots WHERE slot_name = $1", r.cfg.slot) == "false"
	}, waitFor, 20*time.Millisecond)
	_, err = r.TakeOver(t.Context(), []byte(`{"lsn":2,"lsn_proc":2,"lsn_commit":1,"messageType":"INSERT","txId":3}`))
	require.ErrorContains(t, err, "slot: "+r.cfg.slot+" does not have the transaction 3 that the offset lies in")
}
