package wire

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// maxNetWriteTimeout is the greatest net_write_timeout. A server gives up on a reader that does not read for so long; ours does
// not while the pipeline is blocked, for as long as that takes.
const maxNetWriteTimeout = 31536000

// The id and the flag of a reader that is no replica and ends where the log ends, as mysqlbinlog does.
const (
	noReplica       = 0
	dumpNonBlocking = 1
)

// DumpRequest is what a connection shall send of the binlog, and to whom.
type DumpRequest struct {
	Flavor string
	// From is the position that everything shall follow: its GTIDs if it has them, else its place, which has 32 bits.
	From *gtid.Position
	// UUID is the id of a replica: MySQL ends an older dump under the same one.
	UUID string
	// ServerID is that of a replica, which SHOW REPLICAS then shows; 0 is a reader that is none and for which the log ends where
	// it ends now.
	ServerID uint32
	// Heartbeat is how often the server tells that it has nothing new.
	Heartbeat time.Duration
}

// OpenDump opens a connection on which the binlog arrives from now on: packets reads it.
func (s *Server) OpenDump(ctx context.Context, d DumpRequest) (*Conn, error) {
	c, err := s.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.dump(ctx, d); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) dump(ctx context.Context, d DumpRequest) error {
	for _, sql := range d.preparations() {
		if _, err := c.Query(ctx, sql); err != nil {
			return fmt.Errorf("preparing the binlog dump: %w", err)
		}
	}
	flags := uint16(dumpNonBlocking)
	if d.ServerID != noReplica {
		flags = 0
		if err := c.register(ctx, d.ServerID); err != nil {
			return err
		}
	}
	if err := c.command(d.command(flags)); err != nil {
		return c.Classify(fmt.Errorf("asking for the binlog: %w", err), fault.KindConnect)
	}
	c.in.limit = 0
	return nil
}

// preparations are the statements before the request.
func (d DumpRequest) preparations() []string {
	period := d.Heartbeat.Nanoseconds()
	statements := []string{
		// Events without checksums: the connection has its own.
		"SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'",
		fmt.Sprintf("SET @master_heartbeat_period = %d, @source_heartbeat_period = %d", period, period),
		fmt.Sprintf("SET SESSION net_write_timeout = %d", maxNetWriteTimeout),
	}
	if d.Flavor == product.MariaDB {
		// Capability 4: we understand GTID events.
		statements = append(statements, "SET @mariadb_slave_capability = 4")
		if d.From.HasGTIDs {
			statements = append(statements, "SET @slave_connect_state = "+statement.Quote(d.From.GTIDs()), "SET @slave_gtid_strict_mode = 1")
		}
		return statements
	}
	// A server ends an older dump of the same replica UUID, such as one whose connection broke unnoticed.
	id := statement.Quote(d.UUID)
	return append(statements, "SET @replica_uuid = "+id+", @slave_uuid = "+id)
}

// register makes the source visible in SHOW REPLICAS.
func (c *Conn) register(ctx context.Context, serverID uint32) error {
	const host = "deltaforge"
	p := []byte{mysql.COM_REGISTER_SLAVE}
	p = binary.LittleEndian.AppendUint32(p, serverID)
	p = append(append(p, byte(len(host))), host...)
	p = append(p, 0, 0)             // user and password: none of the other replicas' business
	p = append(p, 0, 0, 0, 0, 0, 0) // port, rank
	p = append(p, 0, 0, 0, 0)       // the source's id, filled in by the source
	err := c.command(p)
	if err == nil {
		err = c.ok()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return c.Classify(fmt.Errorf("registering as a replica (GRANT REPLICATION SLAVE ON *.* TO the account): %w", err),
			fault.KindConnect)
	}
	return nil
}

// command returns COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID.
func (d DumpRequest) command(flags uint16) []byte {
	from := d.From
	le := binary.LittleEndian
	p := make([]byte, 0, 256)
	if from.HasGTIDs && d.Flavor == product.MySQL {
		set := from.Set().Encode()
		p = append(p, mysql.COM_BINLOG_DUMP_GTID)
		p = le.AppendUint16(p, flags)
		p = le.AppendUint32(p, d.ServerID)
		p = le.AppendUint32(p, 0) // no file
		p = le.AppendUint64(p, 4)
		p = le.AppendUint32(p, uint32(len(set)))
		return append(p, set...)
	}
	file, pos := from.File, max(from.Pos, 4)
	if from.HasGTIDs { // MariaDB takes the GTIDs from @slave_connect_state
		file, pos = "", 0
	}
	p = append(p, mysql.COM_BINLOG_DUMP)
	p = le.AppendUint32(p, uint32(pos))
	p = le.AppendUint16(p, flags)
	p = le.AppendUint32(p, d.ServerID)
	return append(p, file...)
}
