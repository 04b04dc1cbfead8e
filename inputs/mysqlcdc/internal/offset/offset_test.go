package offset

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
)

func TestParse(t *testing.T) {
	o, err := Parse([]byte(`{"transaction_id":null,"ts_sec":1,"file":"b.000003","pos":157,"gtids":"uuid:1-5,\nuuid2:1","row":2,"server_id":1,"event":3}`))
	require.NoError(t, err)
	assert.Equal(t, Offset{File: "b.000003", Pos: 157, GTIDs: "uuid:1-5,uuid2:1", Events: 3, Rows: 2}, o)
	assert.True(t, o.Inside())
	o, err = Parse([]byte(`{"file":"b.000003","pos":157,"snapshot":"INITIAL","snapshot_completed":true}`))
	require.NoError(t, err)
	assert.False(t, o.Inside())
	const none = "the offset is not one of a connector for MySQL or MariaDB: it has no file and pos"
	const snapshot = "the connector was in its snapshot: let it end, or start DeltaForge without an import and let it load the tables"
	for text, want := range map[string]string{
		`{"lsn":5}`: none, `{"file":"b.1"}`: none, `{"file":"b.1","pos":4,"snapshot":true}`: snapshot, `{"file":"b.1","pos":4,"snapshot":"INITIAL","snapshot_completed":false}`: snapshot,
	} {
		_, err := Parse([]byte(text))
		assert.EqualError(t, err, want, text)
	}
	_, err = Parse([]byte(`[]`))
	assert.ErrorContains(t, err, "the offset is not one of a connector for MySQL or MariaDB: ")
}

// What follows the place of the offset may not be the transaction that it was made in.
func TestAnotherLog(t *testing.T) {
	for _, c := range []struct {
		offset Offset
		kinds  []replication.EventType
		want   string
	}{
		{Offset{Events: 1}, []replication.EventType{replication.QUERY_EVENT}, ""},
		{Offset{Events: 3}, []replication.EventType{replication.QUERY_EVENT, replication.XID_EVENT}, ""},
		{
			Offset{Events: 3, Rows: 1},
			[]replication.EventType{replication.QUERY_EVENT, replication.XID_EVENT},
			"the offset has 3 events and 1 rows of a transaction, which has a XIDEvent as event 2: the log is another one",
		},
		{
			Offset{Events: 1, Rows: 1},
			[]replication.EventType{replication.QUERY_EVENT, replication.QUERY_EVENT},
			"the offset has 1 events and 1 rows of a transaction, which has a QueryEvent as event 2: the log is another one",
		},
		{
			Offset{Events: 2},
			[]replication.EventType{replication.TRANSACTION_PAYLOAD_EVENT},
			"the connector has stopped inside a compressed transaction, whose events it counts in a way of its own: start it again, and stop it while nothing is written",
		},
	} {
		counter := NewCounter(c.offset)
		var err error
		for _, kind := range c.kinds {
			if err == nil && !counter.Done() {
				err = counter.Event(binlog.Header{Kind: kind}, nil)
			}
		}
		if c.want == "" {
			require.NoError(t, err)
			assert.True(t, counter.Done())
			assert.Zero(t, counter.Sent)
		} else {
			assert.EqualError(t, err, c.want)
		}
	}
}

// The rows of events that the connector has delivered whole count, and of the one that it was in as many as it says.
func TestRowsOfATransaction(t *testing.T) {
	table := []byte("\x07\x00\x00\x00\x00\x00\x01\x00\x01d\x00\x01t\x00\x01\x03\x00\x00") // d.t, one INT
	rows := []byte("\x07\x00\x00\x00\x00\x00\x01\x00\x02\x00\x01\x01" + "\x00\x01\x00\x00\x00" + "\x00\x02\x00\x00\x00" + "\x00\x03\x00\x00\x00")
	for _, c := range []struct {
		events, rows uint64
		sent         uint64
		want         string
	}{
		{events: 1},
		{events: 2},
		{events: 2, rows: 1, sent: 1},
		{events: 2, rows: 3, sent: 3},
		{events: 3, sent: 3},
		{events: 4, rows: 2, sent: 5},
		{events: 5, sent: 6},
		{events: 4, rows: 4, want: "the offset has 4 rows of an event of d.t that has 3: the log is another one"},
	} {
		counter := NewCounter(Offset{Events: c.events, Rows: c.rows})
		var err error
		for _, e := range []struct {
			kind replication.EventType
			body []byte
		}{
			{replication.QUERY_EVENT, nil},
			{replication.TABLE_MAP_EVENT, table},
			{replication.WRITE_ROWS_EVENTv2, rows},
			{replication.TABLE_MAP_EVENT, table},
			{replication.WRITE_ROWS_EVENTv2, rows},
		} {
			if err == nil && !counter.Done() {
				err = counter.Event(binlog.Header{Kind: e.kind}, e.body)
			}
		}
		if c.want != "" {
			assert.EqualError(t, err, c.want)
			continue
		}
		require.NoError(t, err, "%+v", c)
		assert.True(t, counter.Done(), "%+v", c)
		assert.Equal(t, c.sent, counter.Sent, "%+v", c)
	}
}
