package wire

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
)

// DerivedServerIDs is where derived ids begin: after what people choose by hand.
const DerivedServerIDs = 1 << 31

// ReplicaIdentity returns what a source is called among the replicas of a server: its id, which is derived from the name of the source if it is 0, its
// UUID, and another UUID for what it reads beside its stream.
func ReplicaIdentity(source string, id uint32) (serverID uint32, uuid, excerpts string) {
	sum := sha256.Sum256([]byte("deltaforge_mysql\x00" + source))
	if id == 0 {
		id = DerivedServerIDs | binary.BigEndian.Uint32(sum[:4])>>1
	}
	var b [16]byte
	copy(b[:], sum[4:])
	binary.BigEndian.PutUint32(b[12:], id)
	uuid = string(gtid.AppendUUID(nil, b))
	b[0] ^= 0xff
	return id, uuid, string(gtid.AppendUUID(nil, b))
}
