package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/plane"
	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A person has tables loaded: by the control plane, by the command line, and by a row in the signal table. The page shows how far it is.
func TestOperatorSnapshot(t *testing.T) {
	binary(t)
	for name, open := range map[string]func(t *testing.T, d *deck) source{
		"mysql":    func(t *testing.T, d *deck) source { t.Helper(); return deckMySQL(t, d, "") },
		"mariadb":  deckMariaDB,
		"postgres": func(t *testing.T, d *deck) source { t.Helper(); return deckPostgres(t, d, "") },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeck(t, "")
			src := open(t, d)
			redis, stream := deckRedis(t, d), testenv.Name(t)
			w := src.workload(t)
			w.fill("")
			signals := strings.Replace(src.full, "accounts", "signals", 1)
			_, err := src.db.ExecContext(t.Context(), "CREATE TABLE signals (id VARCHAR(40) NOT NULL PRIMARY KEY, type VARCHAR(40), data VARCHAR(400))")
			require.NoError(t, err)
			if src.slot != "" {
				_, err = src.db.ExecContext(t.Context(), "ALTER TABLE signals OWNER TO "+servers.User)
				require.NoError(t, err)
			}
			src.input = strings.Replace(src.input, "snapshot: {mode: never}", "snapshot: {mode: never, chunk_rows: 4000, signal_table: "+signals+"}", 1)
			d.start()
			d.want(200, "POST", "/streams/load", src.input+deckStream(redis.Addr(), stream))
			d.until(60*time.Second, atLeast(1), "checkpoint_success_total")

			d.want(404, "POST", "/streams/nothing/snapshot", `{"action": "start"}`)
			d.want(400, "POST", "/streams/load/snapshot", `{"action": "begin"}`)
			d.want(400, "POST", "/streams/load/snapshot", `{}`)
			eventually(t, patience, "the list of tables", func() bool {
				status, answer := d.call(http.MethodPost, "/streams/load/snapshot", `{"action": "start", "tables": ["shop.nothing"]}`)
				return status == 400 && strings.Contains(answer, "no captured table is called shop.nothing")
			})
			d.want(200, "POST", "/streams/load/snapshot", fmt.Sprintf(`{"action": "start", "tables": [%q]}`, src.full))
			d.loaded(src, loadedRows)
			d.scrape().is(loadedRows, "snapshot_rows_total", "table="+src.full)
			d.until(15*time.Second, exactly(1), "snapshot_progress_ratio", "table="+src.full)

			out := d.snapshotCommand("start", "--where", "id < 500", "load", src.full)
			assert.Contains(t, out, src.full)
			d.loaded(src, 500)
			assert.Regexp(t, src.slug+` +`+src.full+` +done +500 `, d.snapshotCommand("status", "load"))

			_, err = src.db.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO signals VALUES ('one', 'execute-snapshot', '{"data-collections": ["%s"], "additional-condition": "id < 700"}')`, src.full))
			require.NoError(t, err)
			d.loaded(src, 700)
			_, err = src.db.ExecContext(t.Context(), "INSERT INTO signals VALUES ('two', 'pause-snapshot', NULL)")
			require.NoError(t, err)
			eventually(t, patience, "the pause", func() bool { return d.snapshots()[src.slug].Paused })
			d.snapshotCommand("start", "load", src.full)
			d.want(200, "POST", "/streams/load/stop", "")
			d.want(409, "POST", "/streams/load/snapshot", `{"action": "resume"}`)
			d.want(200, "POST", "/streams/load/start", "")
			eventually(t, patience, "the pause that was there before the restart", func() bool {
				s := d.snapshots()[src.slug]
				return s.Paused && len(s.Tables) > 0 && s.Tables[0].State != "done" && s.Tables[0].Rows == 0
			})
			d.snapshotCommand("resume", "load")
			d.loaded(src, loadedRows)
			d.covered()
		})
	}
}

// snapshots returns how the snapshots of the pipeline "load" are, by source.
func (d *deck) snapshots() map[string]plane.SnapshotStatus {
	d.t.Helper()
	status, answer := d.call(http.MethodGet, "/streams/load/snapshot", "")
	if status == http.StatusConflict { // it has not connected
		return nil
	}
	require.Equal(d.t, http.StatusOK, status, answer)
	var got struct {
		Sources map[string]plane.SnapshotStatus `json:"sources"`
	}
	require.NoError(d.t, json.Unmarshal([]byte(answer), &got))
	return got.Sources
}

// loaded waits until the table is loaded, with a number of rows.
func (d *deck) loaded(src source, rows int) {
	d.t.Helper()
	eventually(d.t, patience, fmt.Sprintf("%d rows loaded", rows), func() bool {
		for _, table := range d.snapshots()[src.slug].Tables {
			if table.Table == src.full && table.State == "done" && table.Rows == int64(rows) {
				return true
			}
		}
		return false
	})
}

// snapshotCommand runs `deltaforge snapshot`.
func (d *deck) snapshotCommand(action string, args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), d.cmd.Path, append([]string{"snapshot", action, "--url", "http://" + d.control}, args...)...)
	cmd.Dir, cmd.Env = d.dir, environment(d.t, d.dir, d.env...)
	out, err := cmd.CombinedOutput()
	require.NoError(d.t, err, "%s", out)
	return string(out)
}
