package mysqlcdc

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// maxNetWriteTimeout is the greatest net_write_timeout. A server gives up on a reader that does not read for so long; ours does
// not while the pipeline is blocked, for as long as that takes.
const maxNetWriteTimeout = 31536000

// openDump opens the connection on which the binlog arrives and asks for everything behind the position.
func (s *session) openDump(ctx context.Context, from *Position) error {
	c, err := s.prepareDump(ctx, from, s.log.cfg.replicaUUID)
	if err != nil {
		return err
	}
	s.stream = c
	if err := s.register(ctx); err != nil {
		return err
	}
	return s.dump(c, from, s.log.cfg.serverID, 0)
}

// The id and the flag of a reader that is no replica and ends where the log ends, as mysqlbinlog does.
const (
	noReplica       = 0
	dumpNonBlocking = 1
)

// openExcerpt opens another connection and asks for what is behind the position, up to where the log ends now.
func (s *session) openExcerpt(ctx context.Context, from *Position) (events, error) {
	c, err := s.prepareDump(ctx, from, s.log.cfg.excerptUUID)
	if err != nil {
		return nil, err
	}
	if err := s.dump(c, from, noReplica, dumpNonBlocking); err != nil {
		c.close()
		return nil, err
	}
	return &dumpEvents{conn: c, in: c.packets()}, nil
}

// prepareDump opens a connection for a dump under a replica's UUID.
func (s *session) prepareDump(ctx context.Context, from *Position, uuid string) (*conn, error) {
	srv := s.log.cfg.server
	srv.readTimeout = s.log.cfg.readTimeout
	c, err := srv.connect(ctx)
	if err != nil {
		return nil, err
	}
	period := s.log.cfg.heartbeat.Nanoseconds()
	statements := []string{
		// Events without checksums: the connection has its own.
		"SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'",
		fmt.Sprintf("SET @master_heartbeat_period = %d, @source_heartbeat_period = %d", period, period),
		fmt.Sprintf("SET SESSION net_write_timeout = %d", maxNetWriteTimeout),
	}
	if s.flavor == flavorMariaDB {
		// Capability 4: we understand GTID events.
		statements = append(statements, "SET @mariadb_slave_capability = 4")
		if from.gtid {
			statements = append(statements, "SET @slave_connect_state = "+quote(from.gtidText()), "SET @slave_gtid_strict_mode = 1")
		}
	} else {
		// A server ends an older dump of the same replica UUID, such as one whose connection broke unnoticed.
		id := quote(uuid)
		statements = append(statements, "SET @replica_uuid = "+id+", @slave_uuid = "+id)
	}
	for _, sql := range statements {
		r, err := c.query(ctx, sql)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("preparing the binlog dump: %w", err)
		}
		r.Close()
	}
	return c, nil
}

// dump asks for the binlog.
func (s *session) dump(c *conn, from *Position, serverID uint32, flags uint16) error {
	c.ResetSequence()
	if err := c.WritePacket(s.dumpCommand(from, serverID, flags)); err != nil {
		return c.classify(fmt.Errorf("asking for the binlog: %w", err), coordinator.KindConnect)
	}
	return nil
}

// register makes the source visible in SHOW REPLICAS.
func (s *session) register(ctx context.Context) error {
	const host = "deltaforge"
	p := make([]byte, 4, 64) // the header of the packet
	p = append(p, mysql.COM_REGISTER_SLAVE)
	p = binary.LittleEndian.AppendUint32(p, s.log.cfg.serverID)
	p = append(append(p, byte(len(host))), host...)
	p = append(p, 0, 0)             // user and password: none of the other replicas' business
	p = append(p, 0, 0, 0, 0, 0, 0) // port, rank
	p = append(p, 0, 0, 0, 0)       // the source's id, filled in by the source
	s.stream.ResetSequence()
	err := s.stream.WritePacket(p)
	if err == nil {
		_, err = s.stream.ReadOKPacket()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return s.stream.classify(fmt.Errorf("registering as a replica (GRANT REPLICATION SLAVE ON *.* TO the account): %w", err),
			coordinator.KindConnect)
	}
	return nil
}

// dumpCommand returns COM_BINLOG_DUMP or COM_BINLOG_DUMP_GTID, with room for the header in front.
func (s *session) dumpCommand(from *Position, serverID uint32, flags uint16) []byte {
	le := binary.LittleEndian
	p := make([]byte, 4, 256)
	if from.gtid && s.flavor == flavorMySQL {
		set := from.set().encode()
		p = append(p, mysql.COM_BINLOG_DUMP_GTID)
		p = le.AppendUint16(p, flags)
		p = le.AppendUint32(p, serverID)
		p = le.AppendUint32(p, 0) // no file
		p = le.AppendUint64(p, 4)
		p = le.AppendUint32(p, uint32(len(set)))
		return append(p, set...)
	}
	file, pos := from.file, max(from.pos, 4)
	if from.gtid { // MariaDB takes the GTIDs from @slave_connect_state
		file, pos = "", 0
	}
	p = append(p, mysql.COM_BINLOG_DUMP)
	p = le.AppendUint32(p, uint32(pos))
	p = le.AppendUint16(p, flags)
	p = le.AppendUint32(p, serverID)
	return append(p, file...)
}
