package mysqlcdc

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"
)

// FuzzTaggedGTID is about the library's decoder, which indexes what it has not checked.
func FuzzTaggedGTID(f *testing.F) {
	f.Add([]byte("\x02\x76\x00"))
	for _, body := range recordedBodies(f, flavorMySQL, replication.GTID_TAGGED_LOG_EVENT) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		id, _, err := parseTaggedGTID(body)
		if err != nil {
			return
		}
		if set, err := parseGTIDSet(id.String()); err != nil || set.String() != id.String() {
			t.Fatalf("%s cannot be read back: %v", id, err)
		}
	})
}

func TestParsePrepare(t *testing.T) {
	body := []byte{1, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'a', 'b', 'c'}
	xid, onePhase, err := parsePrepare(body)
	require.NoError(t, err)
	require.True(t, onePhase)
	require.Equal(t, "X'6162',X'63',7", xid)
	for n := range body {
		_, _, err := parsePrepare(body[:n])
		require.ErrorIs(t, err, errTruncated)
	}
	_, _, err = parsePrepare([]byte{0, 1, 0, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0, 'a'})
	require.ErrorIs(t, err, errTruncated)
}

func FuzzPrepare(f *testing.F) {
	f.Add([]byte{1, 7, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'a', 'b', 'c'})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		xid, _, err := parsePrepare(body)
		if err != nil {
			return
		}
		if st := parseStatement([]byte("XA COMMIT " + xid)); st != (statement{kind: statementXACommit, xid: xid}) {
			t.Fatalf("%x is %s, which a statement names %+v", body, xid, st)
		}
	})
}
