package binlog

import "github.com/go-mysql-org/go-mysql/replication"

// The flags of what is read here, and what is done for each. "Nothing" has a reason: a flag says something about how a replica applies
// an event, or about a file, that does not change which rows a table has.
//
// The common header (MySQL source, log_event.h; MariaDB source, log_event.h):
//
//	0x0001 BINLOG_IN_USE          the file was not closed. Nothing: servers clear it in a dump.
//	0x0002 FORCED_ROTATE          nothing: no supported server sets it.
//	0x0004 THREAD_SPECIFIC        the statement is one of its session alone: its tables may be temporary (ThreadSpecific).
//	0x0008 SUPPRESS_USE           the current database does not matter. Nothing: a name without a database is looked for in it still.
//	0x0020 ARTIFICIAL             made by the dump; it is in no file, so the place in the file stays (Artificial).
//	0x0040 RELAY_LOG              nothing: relay logs are not read.
//	0x0080 IGNORABLE              who does not know the event may pass over it. One that is not known and has no such flag is an error (SaysNothing).
//	0x0100 NO_FILTER              nothing: it is about replication filters, which are not ours.
//	0x0200 MTS_ISOLATE            nothing: it is about the order in which replicas apply transactions.
//	0x4000 ACCEPT_OWN (MariaDB)   nothing: it is about events that come back to their server.
//	0x8000 SKIP_REPLICATION (MariaDB)  nothing: the rows are changed on this server, whether or not replicas want them.
//
// The GTID event of MySQL (Gtid_event, first byte):
//
//	0x01 FLAG_MAY_HAVE_SBR        statements may be among its events. Nothing: each statement is looked at.
//
// The GTID event of MariaDB (Gtid_log_event, flags2):
//
//	0x01 STANDALONE               the group is one event, without an end of its own (MariaGTID.Standalone).
//	0x02 GROUP_COMMIT_ID          a number follows, which is skipped.
//	0x04 TRANSACTIONAL            nothing: what a rollback undoes is told by the engines of the tables.
//	0x08 ALLOW_PARALLEL, 0x10 WAITED  nothing: they are about how replicas apply it.
//	0x20 DDL                      nothing: the statement tells.
//	0x40 PREPARED_XA              the group ends with XA PREPARE: its rows may never count (MariaGTID.PreparedXA).
//	0x80 COMPLETED_XA             the group ends such a transaction; the statement tells. The id that follows is skipped.
//
// and, after those, flags_extra:
//
//	0x01 MULTI_ENGINE             a byte follows, which is skipped.
//	0x02 START_ALTER              the statement begins an ALTER that has changed nothing yet (MariaGTID.Alter).
//	0x04 COMMIT_ALTER             the statement, which is the same one again, has changed the table now.
//	0x08 ROLLBACK_ALTER           the statement has failed, and changed nothing.
//	0x10 THREAD_ID                a number follows, after which nothing does.
//
// The table map (Table_map_event):
//
//	0x0001 BIT_LEN_EXACT          the length of BIT columns is in bits. Every supported server sets it.
//	0x0002 REFERRED_FK_DB         nothing: it is about the order of replicas.
//	0x0004 GENERATED_INVISIBLE_PK nothing: the column is one of the table's.
//	0x4000 HAS_TRIGGERS (MariaDB) nothing: the rows that triggers change are in the log.
//
// The rows event (Rows_event):
//
//	0x0001 STMT_END               nothing: what ends a statement may have no row, which is told by its images.
//	0x0002 NO_FOREIGN_KEY_CHECKS, 0x0004 RELAXED_UNIQUE_CHECKS  nothing: they are about what replicas check.
//	0x0008 COMPLETE_ROWS          nothing: the bitmaps of the images say which columns there are.
//	0x0010 NO_CHECK_CONSTRAINT_CHECKS (MariaDB)  nothing, as above.
//
// Version 2 of it has extra fields: partitions and NDB's, which say nothing about values.
//
// The query event (Query_event, flags2 among its status variables):
//
//	0x00004000 AUTO_IS_NULL, 0x00080000 NOT_AUTOCOMMIT, 0x04000000 NO_FOREIGN_KEY_CHECKS, 0x08000000 RELAXED_UNIQUE_CHECKS,
//	0x10000000 IF_EXISTS (MariaDB, sql_if_exists)  nothing: a statement that then leaves something out does not fit the shape, which is an
//	                              error and never a guess.
//	0x01000000 EXPLICIT_DEFAULTS (MariaDB)  a TIMESTAMP column is NULL unless it says otherwise (QueryVars.ImplicitTimestamp).
//
// The format description event has no flags of its own: its last bytes say whether events have checksums.
const (
	flagThreadSpecific = 0x0004
	flagIgnorable      = 0x0080

	mariaStandalone    = 0x01
	mariaGroupCommitID = 0x02
	mariaPreparedXA    = 0x40
	mariaCompletedXA   = 0x80

	mariaStartAlter    = 0x02
	mariaCommitAlter   = 0x04
	mariaRollbackAlter = 0x08
)

// ThreadSpecific reports a statement that is of its session alone, such as one about a temporary table.
func (h Header) ThreadSpecific() bool { return h.flags&flagThreadSpecific != 0 }

// SaysNothing reports an event that is of no matter here: it is known to have no rows, or says itself that who does not know it may pass
// over it. It is asked about those that nothing is done for.
func SaysNothing(h Header) bool {
	switch h.Kind {
	case replication.STOP_EVENT, replication.INTVAR_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT, replication.BEGIN_LOAD_QUERY_EVENT,
		replication.APPEND_BLOCK_EVENT, replication.DELETE_FILE_EVENT, replication.IGNORABLE_EVENT, replication.ROWS_QUERY_EVENT,
		replication.PREVIOUS_GTIDS_EVENT, replication.TRANSACTION_CONTEXT_EVENT, replication.VIEW_CHANGE_EVENT,
		replication.MARIADB_ANNOTATE_ROWS_EVENT, replication.MARIADB_BINLOG_CHECKPOINT_EVENT, replication.MARIADB_GTID_LIST_EVENT,
		replication.MARIADB_START_ENCRYPTION_EVENT, replication.FORMAT_DESCRIPTION_EVENT:
		return true
	default:
		return h.flags&flagIgnorable != 0
	}
}
