package mysqlcdc

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// A source that works says where it begins to read and where it stops, in one line each, and nothing else. Where it stops is where it begins the next
// time, whatever others write meanwhile.
func TestLinesOfAHealthySource(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.exec(t, "SET GLOBAL binlog_row_metadata = FULL", "CREATE TABLE item (id INT PRIMARY KEY)")
		defer b.exec(t, "SET GLOBAL binlog_row_metadata = DEFAULT")
		input := fmt.Sprintf("deltaforge_mysql: {name: orders, dsn: %q, tables: {include: [%q]}, checkpoint: {path: %q}, snapshot: {mode: never}}",
			b.srv.UserDSN(""), b.db+".item", filepath.Join(testenv.TempDir(t), "checkpoints.db"))
		b.exec(t, "CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY)")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		other, ended := b.second(t), make(chan struct{})
		go func() {
			defer close(ended)
			for range 20_000 {
				if _, err := other.sql.ExecContext(ctx, "INSERT INTO other VALUES ()"); err != nil {
					return // the test ends
				}
			}
		}()
		defer func() { cancel(); <-ended }()
		var stopped string
		for n := range 2 {
			s := testenv.RunStream(t, input)
			require.Eventually(t, func() bool { return strings.Contains(s.String(), "Reading the log") }, patience, 10*time.Millisecond)
			b.exec(t, fmt.Sprintf("INSERT INTO item VALUES (%d)", n))
			require.Eventually(t, func() bool { return s.Rows() == 1 }, patience, 10*time.Millisecond, "%v", s)
			s.Stop()
			lines := s.Lines()
			if n == 0 { // once in its life
				require.NotEmpty(t, lines)
				assert.Contains(t, lines[0].Msg, "this is taken for its first start. Reading begins at "+lines[0].Position)
				lines = lines[1:]
			}
			require.Len(t, lines, 2, "%v", lines)
			from, at := lines[0].Position, lines[1].Position
			assert.Equal(t, "Reading the log of orders from "+from, lines[0].Msg)
			assert.Equal(t, "Stopped reading the log of orders at "+at, lines[1].Msg)
			for _, position := range []string{from, at} {
				_, err := gtid.ParsePosition(position)
				require.NoError(t, err)
			}
			assert.NotEqual(t, from, at)
			if n == 1 {
				assert.Equal(t, stopped, from, "where the run before has stopped")
			}
			stopped = at
		}
	})
}
