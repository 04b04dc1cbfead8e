package mysqlcdc

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"
)

// recorded returns the events of testdata/binlog, one behind the other, as MySQL 9.7 and MariaDB 10.11 sent them with
// binlog_row_metadata=FULL. TestRecorded tells what statements they are of.
func recorded(t testing.TB, flavor string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/binlog/" + flavor + ".bin")
	require.NoError(t, err)
	return data
}

// splitEvents cuts events apart by their sizes, and sets right the sizes that cannot be.
func splitEvents(data []byte) (events [][]byte) {
	for len(data) >= replication.EventHeaderSize {
		size := int(min(max(binary.LittleEndian.Uint32(data[9:]), replication.EventHeaderSize), uint32(len(data))))
		event := bytes.Clone(data[:size])
		binary.LittleEndian.PutUint32(event[9:], uint32(size))
		events, data = append(events, event), data[size:]
	}
	return events
}

func eventKind(event []byte) replication.EventType { return replication.EventType(event[4]) }

// recordedEvents returns the recorded events without their checksums, which would keep every change out.
func recordedEvents(t testing.TB, flavor string) [][]byte {
	t.Helper()
	events, sums := splitEvents(recorded(t, flavor)), 0
	for i, e := range events {
		if eventKind(e) == replication.FORMAT_DESCRIPTION_EVENT {
			sums = int(e[len(e)-5]) * replication.BinlogChecksumLength
			e[len(e)-5] = 0
			continue
		}
		events[i] = e[:len(e)-sums]
		binary.LittleEndian.PutUint32(e[9:], uint32(len(e)-sums))
	}
	return events
}

// recordedBodies returns the bodies of the recorded events of some kinds, without checksums.
func recordedBodies(t testing.TB, flavor string, kinds ...replication.EventType) (bodies [][]byte) {
	t.Helper()
	for _, e := range recordedEvents(t, flavor) {
		for _, k := range kinds {
			if eventKind(e) == k {
				bodies = append(bodies, e[replication.EventHeaderSize:])
			}
		}
	}
	require.NotEmpty(t, bodies, "%s %v", flavor, kinds)
	return bodies
}
