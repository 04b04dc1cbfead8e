package binlog

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/recorded"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// FuzzTaggedGTID is about the library's decoder, which indexes what it has not checked.
func FuzzTaggedGTID(f *testing.F) {
	f.Add([]byte("\x02\x76\x00"))
	for _, body := range recorded.Bodies(f, product.MySQL, replication.GTID_TAGGED_LOG_EVENT) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		id, _, err := ParseTaggedGTID(body)
		if err != nil {
			return
		}
		if set, err := gtid.ParseSet(id.String()); err != nil || set.String() != id.String() {
			t.Fatalf("%s cannot be read back: %v", id, err)
		}
	})
}

func TestParsePrepare(t *testing.T) {
	body := []byte{1, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'a', 'b', 'c'}
	xid, onePhase, err := ParsePrepare(body)
	require.NoError(t, err)
	require.True(t, onePhase)
	require.Equal(t, "X'6162',X'63',7", xid)
	for n := range body {
		_, _, err := ParsePrepare(body[:n])
		require.ErrorIs(t, err, ErrTruncated)
	}
	_, _, err = ParsePrepare([]byte{0, 1, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0, 'a'})
	require.ErrorIs(t, err, ErrTruncated)
}

func FuzzPrepare(f *testing.F) {
	f.Add([]byte{1, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'a', 'b', 'c'})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		xid, _, err := ParsePrepare(body)
		if err != nil {
			return
		}
		if st := statement.Parse("XA COMMIT "+xid, statement.Mode{}, statement.NewDialect(product.MySQL, "9.7.0")); st != (statement.Statement{Kind: statement.XACommit, XID: xid}) {
			t.Fatalf("%x is %s, which a statement names %+v", body, xid, st)
		}
	})
}
