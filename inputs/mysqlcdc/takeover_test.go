package mysqlcdc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/servers"
	"github.com/deltaforge/deltaforge/internal/testenv"
)

// TestTakeOverMariaDB takes over offsets as Debezium's connector for MariaDB writes them, which counts from the GTID event on: at each row of a
// transaction, by GTIDs and by places.
func TestTakeOverMariaDB(t *testing.T) {
	b := newBench(t, testenv.StartMariaDB(t, servers.Options{NoSync: true}))
	b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)", "CREATE TABLE other (id INT PRIMARY KEY)", "INSERT INTO c VALUES (100)")
	before := b.query(t, "SELECT @@gtid_binlog_pos")
	var file, pos, s string
	require.NoError(t, b.sql.QueryRowContext(t.Context(), "SHOW MASTER STATUS").Scan(&file, &pos, &s, &s))
	b.exec(t, "BEGIN", "INSERT INTO c VALUES (1), (2)", "INSERT INTO other VALUES (1)", "INSERT INTO c VALUES (3), (4), (5)", "COMMIT", "INSERT INTO c VALUES (6)")
	// GTID, table map, rows, table map, rows, table map, rows.
	for _, c := range []struct {
		events, rows int
		sent         uint64
		left         []int
	}{
		{0, 0, 0, []int{1, 2, 3, 4, 5, 6}},
		{1, 0, 0, []int{1, 2, 3, 4, 5, 6}},
		{2, 1, 1, []int{2, 3, 4, 5, 6}},
		{2, 2, 2, []int{3, 4, 5, 6}},
		{3, 0, 2, []int{3, 4, 5, 6}},
		{5, 0, 3, []int{3, 4, 5, 6}},
		{6, 2, 5, []int{5, 6}},
		{6, 3, 6, []int{6}},
	} {
		for _, use := range []string{"auto", "false"} {
			l := b.newLog(t, fmt.Sprintf("use_gtid: %s\ntables: {include: [%s.c]}", use, b.db))
			tok, err := l.TakeOver(t.Context(), fmt.Appendf(nil, `{"file":%q,"pos":%s,"gtids":%q,"event":%d,"row":%d}`, file, pos, before, c.events, c.rows))
			require.NoError(t, err)
			require.Equal(t, c.sent, tok.Sent, "%+v", c)
			r := start(t, l, tok).connected(t)
			var ids []int
			for _, got := range r.take(t, len(c.left)) {
				ids = append(ids, int(got.event.After()[0].Int()))
			}
			require.Equal(t, c.left, ids)
			r.stop(t)
		}
	}
	l := b.newLog(t, "")
	for offset, want := range map[string]string{
		fmt.Sprintf(`{"file":%q,"pos":%s,"gtids":%q,"event":2,"row":9}`, file, pos, before): "the offset has 9 rows of an event of " + b.db + ".c that has 2: the log is another one",
		fmt.Sprintf(`{"file":%q,"pos":%s,"event":99,"row":1}`, file, pos):                   "of a transaction, which has a ",
		fmt.Sprintf(`{"file":%q,"pos":%s1}`, file, pos):                                     "the log is another one",
		fmt.Sprintf(`{"file":%q,"pos":5}`, file):                                            "the log is another one",
		`{"file":"nofile.000009","pos":4}`:                                                  "the server says",
	} {
		_, err := l.TakeOver(t.Context(), []byte(offset))
		require.ErrorContains(t, err, want, strings.ReplaceAll(offset, "%", ""))
	}
}
