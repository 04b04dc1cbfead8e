package mysqlcdc

import (
	"encoding/binary"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

const fileMade = 1764305225 // when the files of these tests were made

// rawEvent is an event that ends at a place; headers have the low 32 bits of it.
func rawEvent(kind replication.EventType, at uint32, end uint64, flags uint16, body ...byte) []byte {
	le := binary.LittleEndian
	e := le.AppendUint32(nil, at)
	e = append(e, byte(kind))
	e = le.AppendUint32(e, 1)
	e = le.AppendUint32(e, uint32(replication.EventHeaderSize+len(body)))
	e = le.AppendUint32(e, uint32(end))
	return append(le.AppendUint16(e, flags), body...)
}

func rotateEvent(file string, pos uint64, flags uint16) []byte {
	return rawEvent(replication.ROTATE_EVENT, 0, 0, flags, append(binary.LittleEndian.AppendUint64(nil, pos), file...)...)
}

func formatEvent(at uint32) []byte {
	return rawEvent(replication.FORMAT_DESCRIPTION_EVENT, at, 0, 0, make([]byte, 76)...)
}

// standing is a session that is at a position and asks for what follows.
func standing(t *testing.T, flavor, position string) *session {
	t.Helper()
	s := offline(flavor)
	p, err := gtid.ParsePosition(position)
	require.NoError(t, err)
	s.position, s.reader = p, s.readerFrom(p, s.byGTIDs)
	s.filesAt = playedAt
	return s
}

const artificial = replication.LOG_EVENT_ARTIFICIAL_F

// TestLargeFiles: a transaction makes a file longer than 4 GiB. Requests have 32 bits for a place, and so have the headers of events.
func TestLargeFiles(t *testing.T) {
	const target = 1<<32 + 1<<28
	s := standing(t, product.MySQL, "bin.000001:4563402752#1764305225")
	require.EqualValues(t, 4563402752, target)
	request := s.dumpRequest(s.position, false, "uuid", 7)
	require.Equal(t, &gtid.Position{File: "bin.000001", Pos: 4, Created: fileMade}, request.From, "from the start of the file")

	before := [][]byte{
		rotateEvent("bin.000001", 4, artificial), formatEvent(fileMade),
		rawEvent(replication.GTID_EVENT, fileMade, 1<<31, 0), // what these are does not matter
		rawEvent(replication.XID_EVENT, fileMade, 1<<32-9, 0),
		rawEvent(replication.GTID_EVENT, fileMade, target, 0),
	}
	after := [][]byte{
		rawEvent(replication.ANONYMOUS_GTID_EVENT, fileMade, target+65, 0, make([]byte, 42)...),
		rawEvent(replication.QUERY_EVENT, fileMade, target+100, 0, append(make([]byte, 13), "\x00BEGIN"...)...),
		rawEvent(replication.XID_EVENT, fileMade, target+131, 0, 1, 0, 0, 0, 0, 0, 0, 0),
	}
	segments, err := playEvents(t, s, before)
	require.NoError(t, err)
	require.Empty(t, segments)
	segments, err = playEvents(t, s, after)
	require.NoError(t, err)
	require.Len(t, segments, 1)
	require.Equal(t, "bin.000001:4563402883#1764305225", segments[0].Commit.String())

	s = standing(t, product.MySQL, "bin.000001:4563402752#1764305225")
	_, err = playEvents(t, s, append(before[:4:4], rawEvent(replication.GTID_EVENT, fileMade, target+1, 0)))
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, "lies inside an event, which ends at bin.000001:4563402753")

	s = standing(t, product.MySQL, "bin.000001:4563402752#1764305225")
	_, err = playEvents(t, s, append(before[:4:4], rotateEvent("bin.000002", 4, 0)))
	require.ErrorIs(t, err, fault.ErrPositionLost)
	require.ErrorContains(t, err, "bin.000001 ends at bin.000001:4294967287, before it")

	// By GTIDs a server leaves out what we have, maybe more than 32 bits of it: then places are not proofs.
	s = offline(product.MySQL)
	files := []catalog.LogFile{{Name: "bin.000001", Size: 1 << 33}}
	s.log.files.Store(&files)
	r := s.readerFrom(s.position, true)
	require.True(t, r.vague)
	files = []catalog.LogFile{{Name: "bin.000001", Size: 1 << 31}}
	r = s.readerFrom(s.position, true)
	require.False(t, r.vague)
}

// TestAnotherLog: what the stream itself shows of a log that is not the one of the position.
func TestAnotherLog(t *testing.T) {
	for name, c := range map[string]struct {
		events [][]byte
		want   string
	}{
		"the same": {[][]byte{rotateEvent("bin.000002", 99, artificial), formatEvent(fileMade)}, ""},
		"another file of the name": {
			[][]byte{rotateEvent("bin.000002", 99, artificial), formatEvent(fileMade + 3600)},
			"position bin.000002:99#1764305225 is in the bin.000002 that was made at 2025-11-28T04:47:05Z; the server's was made at 2025-11-28T05:47:05Z",
		},
		"an older file": {
			[][]byte{rotateEvent("bin.000002", 99, artificial), formatEvent(fileMade), rotateEvent("bin.000001", 4, 0)},
			"after bin.000002:99 the server goes on in bin.000001, which is no newer file",
		},
		"a newer file": {
			[][]byte{rotateEvent("bin.000002", 99, artificial), formatEvent(fileMade), rotateEvent("bin.000003", 4, 0), formatEvent(fileMade + 1)}, "",
		},
		"other names": {
			[][]byte{rotateEvent("bin.000002", 99, artificial), formatEvent(fileMade), rotateEvent("other.000003", 4, artificial)},
			"after bin.000002:99 the server goes on in other.000003, which is no newer file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := standing(t, product.MariaDB, "bin.000002:99#1764305225")
			s.hello = &coordinator.Segment{}
			segments, err := playEvents(t, s, c.events)
			if c.want == "" {
				require.NoError(t, err)
				require.Len(t, segments, len(c.events)/2, "that it is connected, and each new file")
				return
			}
			require.ErrorIs(t, err, fault.ErrPositionLost)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// TestOlderRecords: what an older version has saved does not say when the file was made.
func TestOlderRecords(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		w := &world{b: b}
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		for _, useGTID := range []string{"true", "false"} {
			w.want = nil
			f := &follower{log: b.newLog(t, "use_gtid: "+useGTID)}
			f.start(t)
			w.insert(t, 2)
			require.NoError(t, f.follow(t, w.want))
			f.run.stop(t)
			p := parsedPosition(t, f.run.tok)
			require.NotZero(t, p.Created)
			p = p.At(gtid.Position{File: p.File, Pos: p.Pos})
			f.run.tok.Commit = checkpoint.Text(p.String())
			w.insert(t, 2)
			f.restart(t)
			require.NoError(t, f.follow(t, w.want))
			require.Equal(t, w.want, f.got)
			require.NotZero(t, parsedPosition(t, f.run.tok).Created)
			f.run.stop(t)
		}
	})
}

// TestGTIDsToPlace: use_gtid: false goes on at the place of a saved position that has GTIDs, and only on the server that it is a place of.
func TestGTIDsToPlace(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		w := &world{b: b}
		b.exec(t, "CREATE TABLE c (id INT PRIMARY KEY)")
		f := &follower{log: b.newLog(t, "")}
		f.start(t)
		w.insert(t, 2)
		require.NoError(t, f.follow(t, w.want))
		f.run.stop(t)
		saved := f.run.tok
		require.True(t, parsedPosition(t, saved).HasGTIDs)

		f.log = b.newLog(t, "use_gtid: false")
		w.insert(t, 2)
		f.restart(t)
		require.NoError(t, f.follow(t, w.want))
		require.Equal(t, w.want, f.got)
		require.False(t, parsedPosition(t, f.run.tok).HasGTIDs)
		f.run.stop(t)

		elsewhere := reparsed(saved)
		elsewhere.Source = "another"
		err := start(t, f.log, elsewhere).fail(t)
		require.ErrorContains(t, err, "use_gtid is false and position "+saved.Commit.String()+" has no place in the files of this server ("+saved.Source+"): use_gtid: auto")

		// On another server of a topology the GTIDs count, and the place does not.
		f.log, f.run.tok, f.got = b.newLog(t, ""), elsewhere, f.got[:2]
		f.restart(t)
		require.NoError(t, f.follow(t, w.want))
		require.Equal(t, w.want, f.got)
	})
}
