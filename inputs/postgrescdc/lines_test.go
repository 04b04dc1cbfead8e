package postgrescdc

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A source that works says where it begins to read and where it stops, in one line each, and nothing else. Once in its life it says what it has made, and what it does not read.
func TestLinesOfAHealthySource(t *testing.T) {
	d := newDatabase(t)
	d.exec("CREATE TABLE item (id int PRIMARY KEY)")
	input := fmt.Sprintf("deltaforge_postgres: {name: %[1]s, slot: %[1]s, publication: pub, dsn: %[2]q, checkpoint: {path: %[3]q}, snapshot: {mode: never}}",
		d.name, d.dsn, filepath.Join(testenv.TempDir(t), "checkpoints.db"))
	var stopped string
	for n := range 2 {
		s := testenv.RunStream(t, input)
		require.Eventually(t, func() bool { return strings.Contains(s.String(), "Reading the log") }, waitFor, tick)
		d.exec(fmt.Sprintf("INSERT INTO item VALUES (%d)", n))
		require.Eventually(t, func() bool { return s.Rows() == 1 }, waitFor, tick, "%v", s)
		s.Stop()
		lines := s.Lines()
		if n == 0 { // once in its life
			require.Len(t, lines, 5, "%v", lines)
			assert.Equal(t, `created the publication pub FOR TABLE ONLY "public"."item", and pub_inserts FOR ALL TABLES with the inserts of tables that are made later`, lines[0].Msg)
			assert.Equal(t, "created the replication slot "+d.name+", which starts at "+lines[2].Position+": the rows that the tables hold already are not read", lines[1].Msg)
			assert.Contains(t, lines[2].Msg, "this is taken for its first start. Reading begins at "+lines[2].Position)
			lines = lines[3:]
		}
		require.Len(t, lines, 2, "%v", lines)
		from, at := lines[0].Position, lines[1].Position
		assert.Equal(t, "Reading the log of "+d.name+" from "+from, lines[0].Msg)
		assert.Equal(t, "Stopped reading the log of "+d.name+" at "+at, lines[1].Msg)
		first, err := ParsePosition(from)
		require.NoError(t, err)
		last, err := ParsePosition(at)
		require.NoError(t, err)
		assert.Less(t, first.At, last.At)
		if n == 1 {
			assert.Equal(t, stopped, from, "where the run before has stopped")
		}
		stopped = at
	}
}
