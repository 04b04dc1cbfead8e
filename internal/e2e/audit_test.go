package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// makeAudit makes the audit table of a workload, where no source captures it.
func makeAudit(t *testing.T, db *sql.DB, table string, dollars bool) (name string) {
	t.Helper()
	seq, place := "BIGSERIAL", "oracle"
	if dollars {
		execSQL(t, db, "CREATE SCHEMA IF NOT EXISTS oracle")
	} else {
		seq = "BIGINT AUTO_INCREMENT"
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT concat(database(), '_oracle')").Scan(&place))
		execSQL(t, db, "CREATE DATABASE IF NOT EXISTS "+place)
		t.Cleanup(func() { _, _ = db.ExecContext(context.WithoutCancel(t.Context()), "DROP DATABASE IF EXISTS "+place) })
	}
	name = place + ".audit_" + table
	execSQL(t, db, fmt.Sprintf(createAudit, name, seq))
	return name
}

const createAudit = `CREATE TABLE %s (seq %s PRIMARY KEY, id INT NOT NULL, op CHAR(1) NOT NULL, version INT NOT NULL)`

// auditRows are what a transaction has changed, in its order.
type auditRows []string

func (a *auditRows) add(id int, op string, version int) {
	*a = append(*a, fmt.Sprintf("(%d, '%s', %d)", id, op, version))
}

func (a *auditRows) write(ctx context.Context, tx *sql.Tx, table string) error {
	if len(*a) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (id, op, version) VALUES "+strings.Join(*a, ", "))
	return err
}

// committed returns the changes of each row, from the audit table.
func (w *workload) committed() map[int][]step {
	w.t.Helper()
	return w.committedAfter(0)
}

// committedAfter leaves out those up to a place in the audit table.
func (w *workload) committedAfter(seq int) map[int][]step {
	w.t.Helper()
	out := map[int][]step{}
	for id, s := range w.known {
		out[id] = slices.Clone(s)
	}
	rows, err := w.db.QueryContext(w.t.Context(), fmt.Sprintf("SELECT id, op, version FROM %s WHERE seq > %d ORDER BY seq", w.audit, seq))
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, rows.Close()) }()
	for rows.Next() {
		var id int
		var s step
		require.NoError(w.t, rows.Scan(&id, &s.op, &s.version))
		out[id] = append(out[id], s)
	}
	require.NoError(w.t, rows.Err())
	return out
}

// audited is the end of the audit table.
func (w *workload) audited() (seq int) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRowContext(w.t.Context(), "SELECT coalesce(max(seq), 0) FROM "+w.audit).Scan(&seq))
	return seq
}

// checkSteps asserts that what was delivered of each row is the end of its history, and all that was changed after a place in the audit table.
func (w *workload) checkSteps(got map[int][]step, from int) {
	w.t.Helper()
	want, least := w.committed(), w.committedAfter(from)
	wrong, checked := 0, 0
	for id := range got {
		if _, ok := want[id]; !ok {
			want[id] = nil
		}
	}
	for id, all := range want {
		steps := got[id]
		checked += len(steps)
		if len(steps) < len(least[id]) || len(steps) > len(all) || !slices.Equal(steps, all[len(all)-len(steps):]) {
			if wrong++; wrong <= 3 {
				assert.Equal(w.t, all, steps, "changes of row %d, of which the last %d are due", id, len(least[id]))
			}
		}
	}
	assert.Zero(w.t, wrong, "rows whose changes differ, of %d", len(want))
	assert.Greater(w.t, checked, 100, "changes that were compared")
}
