package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// Pipelines whose position the database no longer has fail, and say so everywhere; another one runs. Once a person has decided,
// they run again.
func TestOperatorFailed(t *testing.T) {
	d := newDeck(t, "")
	srv := testenv.StartMySQL(t, servers.Options{NoSync: true}) // one whose binlogs nobody else reads
	purged, dropped, calm := deckBinlog(t, d, srv, "shop", ""), deckPostgres(t, d, ""), deckMariaDB(t, d)
	redis, stream := deckRedis(t, d), testenv.Name(t)
	d.start()
	for id, src := range map[string]source{"purged": purged, "dropped": dropped, "calm": calm} {
		src.workload(t)
		d.want(200, "POST", "/streams/"+id, src.input+deckStream(redis.Addr(), stream+id))
		d.until(60*time.Second, atLeast(1), "checkpoint_success_total", "pipeline="+id)
	}
	shows := func(running, stopped, failed int) {
		t.Helper()
		d.pipelines(map[string]int{"running": running, "paused": 0, "stopped": stopped, "failed": failed})
	}
	shows(3, 0, 0)
	for _, id := range []string{"purged", "dropped"} {
		d.want(200, "POST", "/streams/"+id+"/stop", "")
		d.until(30*time.Second, exactly(0), "pipeline_status", "pipeline="+id)
	}
	shows(1, 2, 0)

	for _, q := range []string{"INSERT INTO accounts (id, version, amount) VALUES (1, 1, 1)", "FLUSH BINARY LOGS"} {
		_, err := purged.db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	newest, _ := binlogEnd(t, purged)
	_, err := purged.db.ExecContext(t.Context(), "PURGE BINARY LOGS TO '"+newest+"'")
	require.NoError(t, err)
	_, err = dropped.db.ExecContext(t.Context(), "SELECT pg_drop_replication_slot($1)", dropped.slot)
	require.NoError(t, err)
	for _, id := range []string{"purged", "dropped"} {
		d.want(200, "POST", "/streams/"+id+"/start", "")
		now := d.until(60*time.Second, exactly(-1), "pipeline_status", "pipeline="+id)
		now.is(1, "pipeline_status", "pipeline=calm")
		d.until(60*time.Second, atLeast(1), "source_errors_total", "pipeline="+id, "kind=position_lost")
		_, reason := d.call("GET", "/ready", "")
		assert.Contains(t, reason, "position lost", id)
		status, health := d.call("GET", "/health", "")
		assert.Equal(t, 503, status, health)
		assert.Contains(t, health, id)
	}
	shows(1, 0, 2)

	// Somebody decides to go on from now.
	for _, id := range []string{"purged", "dropped"} {
		d.want(200, "POST", "/streams/"+id+"/stop", "")
		d.until(30*time.Second, exactly(0), "pipeline_status", "pipeline="+id)
		d.want(200, "DELETE", "/streams/"+id+"/checkpoint", "")
		d.want(200, "POST", "/streams/"+id+"/start", "")
		d.until(60*time.Second, exactly(1), "pipeline_status", "pipeline="+id)
	}
	shows(3, 0, 0)
	status, health := d.call("GET", "/health", "")
	assert.Equal(t, 200, status, health)
	d.covered()
}
