// Package recorded has events of real servers, for tests that have none.
package recorded

import (
	"bytes"
	"embed"
	"encoding/binary"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"
)

//go:embed testdata/*.bin
var files embed.FS

// Log returns the events of testdata, one after the other, as MySQL 9.7 and MariaDB 10.11 sent them with
// binlog_row_metadata=FULL. TestRecorded tells what statements they are of.
func Log(t testing.TB, flavor string) []byte {
	t.Helper()
	data, err := files.ReadFile("testdata/" + flavor + ".bin")
	require.NoError(t, err)
	return data
}

// Split cuts events apart by their sizes, and sets right the sizes that cannot be.
func Split(data []byte) (events [][]byte) {
	for len(data) >= replication.EventHeaderSize {
		size := int(min(max(binary.LittleEndian.Uint32(data[9:]), replication.EventHeaderSize), uint32(len(data))))
		event := bytes.Clone(data[:size])
		binary.LittleEndian.PutUint32(event[9:], uint32(size))
		events, data = append(events, event), data[size:]
	}
	return events
}

// Kind returns the type of a whole event.
func Kind(event []byte) replication.EventType { return replication.EventType(event[4]) }

// Events returns the recorded events without their checksums, which would keep every change out.
func Events(t testing.TB, flavor string) [][]byte {
	t.Helper()
	events, sums := Split(Log(t, flavor)), 0
	for i, e := range events {
		if Kind(e) == replication.FORMAT_DESCRIPTION_EVENT {
			sums = int(e[len(e)-5]) * replication.BinlogChecksumLength
			e[len(e)-5] = 0
			continue
		}
		events[i] = e[:len(e)-sums]
		binary.LittleEndian.PutUint32(e[9:], uint32(len(e)-sums))
	}
	return events
}

// Bodies returns the bodies of the recorded events of some kinds, without checksums.
func Bodies(t testing.TB, flavor string, kinds ...replication.EventType) (bodies [][]byte) {
	t.Helper()
	for _, e := range Events(t, flavor) {
		for _, k := range kinds {
			if Kind(e) == k {
				bodies = append(bodies, e[replication.EventHeaderSize:])
			}
		}
	}
	require.NotEmpty(t, bodies, "%s %v", flavor, kinds)
	return bodies
}
