package debezium

import (
	"strconv"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
)

// isTransactions reports the table of the markers of transactions, see change.TransactionTable.
func isTransactions(t *change.Table) bool {
	return t.Container() == "deltaforge" && t.Name == "transaction"
}

// appendMarker appends the payload of a record of the transaction topic.
func (e *encoder) appendMarker(dst []byte, ev *change.Event) []byte {
	row := ev.After()
	dst = append(append(dst, e.names.valueHead...), `{"status":`...)
	dst = envelope.AppendValue(dst, row[change.TransactionStatus])
	dst = e.appendTransactionID(append(dst, `,"id":`...), ev)
	dst = envelope.AppendValue(append(dst, `,"event_count":`...), row[change.TransactionCount])
	dst = envelope.AppendValue(append(dst, `,"data_collections":`...), row[change.TransactionTables])
	dst = envelope.AppendValue(append(dst, `,"ts_ms":`...), row[change.TransactionTime])
	return append(append(dst, '}'), e.names.tail...)
}

// appendTransactionID appends the name that Debezium has for a transaction: the GTID, the place in the log, or, of PostgreSQL, the number and a
// place. Debezium has the place of each record there, we have that of the commit, which the begin and the end have in common.
func (e *encoder) appendTransactionID(dst []byte, ev *change.Event) []byte {
	tx := ev.Tx
	switch {
	case e.names.postgres:
		dst = strconv.AppendUint(append(dst, '"'), uint64(tx.XID), 10)
		if at, ok := commitPlace(tx.Position); ok {
			dst = strconv.AppendUint(append(dst, ':'), at, 10)
		}
		return append(dst, '"')
	case tx.GTID == "" && tx.File != "":
		return envelope.AppendString(dst, "file="+tx.File+",pos="+strconv.FormatUint(tx.Pos, 10))
	default:
		return envelope.AppendValue(dst, ev.After()[change.TransactionID])
	}
}

// commitPlace returns the number of an LSN, as PostgreSQL writes it.
func commitPlace(text string) (uint64, bool) {
	for i := range text {
		if text[i] != '/' {
			continue
		}
		high, err := strconv.ParseUint(text[:i], 16, 32)
		low, err2 := strconv.ParseUint(text[i+1:], 16, 32)
		return high<<32 | low, err == nil && err2 == nil
	}
	return 0, false
}
