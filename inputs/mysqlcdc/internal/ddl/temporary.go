package ddl

import (
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

// Temporary tables hide those of their names from the statements of their session, and from no others. Sessions that log statements log
// those on temporary tables too (MySQL with binlog_format=STATEMENT, MariaDB with MIXED as well).

// Session names a session of a server of the topology.
type Session struct{ Server, Thread uint32 }

// IsTemporary reports whether a name is that of a temporary table in a session, as far as its making was in the log since the source has
// started. The name has its database.
func (a *Applier) IsTemporary(s Session, n statement.TableName) bool { return a.temporary[s][n] }

// setTemporary notes that a name has become that of a temporary table, or has ceased to be.
func (a *Applier) setTemporary(s Session, n statement.TableName, is bool) {
	switch {
	case is && a.temporary[s] == nil:
		a.temporary[s] = map[statement.TableName]bool{n: true}
	case is:
		a.temporary[s][n] = true
	default:
		if delete(a.temporary[s], n); len(a.temporary[s]) == 0 {
			delete(a.temporary, s)
		}
	}
}

func (r *run) isTemporary(n statement.TableName) bool { return r.IsTemporary(r.st.Session, n) }

// specific reports a statement that is about a temporary table, whether or not its making was seen: it is of its session alone, and not
// since it asks for the session's id, or drops a table first, which servers mark in the same way.
func (r *run) specific() bool {
	return r.st.ThreadSpecific && !r.red.replaces && !strings.Contains(strings.ToUpper(r.st.Text), "CONNECTION_ID")
}

// renameTemporary takes over a new name of a temporary table; false when it is none.
func (r *run) renameTemporary(from, to statement.TableName, specific bool) bool {
	if !r.isTemporary(from) && !specific {
		return false
	}
	r.setTemporary(r.st.Session, from, false)
	r.setTemporary(r.st.Session, to, true)
	return true
}

// temporary reads what follows CREATE TEMPORARY or DROP TEMPORARY.
func (r *reducer) temporary(made bool) {
	r.red.neutral = true
	if r.acceptAny("TABLE", "TABLES", "SEQUENCE") == "" {
		return
	}
	if !r.accept("IF", "NOT", "EXISTS") {
		r.accept("IF", "EXISTS")
	}
	for {
		n, err := r.tableName()
		if err != nil {
			break
		}
		if made {
			r.red.made = append(r.red.made, n)
			break
		}
		r.red.gone = append(r.red.gone, n)
		if !r.acceptPunct(",") {
			break
		}
	}
	r.red.tables = nil // nobody else sees them
}
