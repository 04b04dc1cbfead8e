package publication

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Appearance is a table that has come under a captured name, or has got rows that the stream does not have.
type Appearance struct {
	Table
	Why string
	// Part is the partition that has come, where the table was there before. It may have been empty then.
	Part *Table
}

// Appeared returns what has appeared between two looks, of what is published now. A table that was made and filled between two looks looks
// like one that was made and is empty, so it is among them.
func Appeared(before, now *State, c *Config) (list []Appearance) {
	was, named := map[uint32]*Table{}, map[Name]*Table{}
	for i := range before.Tables {
		was[before.Tables[i].OID], named[before.Tables[i].Name] = &before.Tables[i], &before.Tables[i]
	}
	roots := map[uint32]*Table{}
	captured := c.Filter.Choose(now.Tables)
	for i := range captured {
		t := &captured[i]
		if !now.Has(t) {
			continue
		}
		if why := whyAppeared(before, now, was[t.OID], named[t.Name], t); why != "" {
			list = append(list, Appearance{Table: *t, Why: why})
		} else if t.Partitioned {
			roots[t.OID] = t
		}
	}
	for i := range now.Tables {
		part := &now.Tables[i]
		for _, a := range part.Ancestors {
			if root := roots[a]; root != nil && !part.Partitioned && !partOf(was[part.OID], a) {
				list = append(list, Appearance{Table: *root, Why: "the partition " + part.String() + " was attached with rows", Part: part})
			}
		}
	}
	return list
}

func whyAppeared(before, now *State, was, named, t *Table) string {
	switch {
	case was == nil && named == nil:
		return "made since the last look"
	case was == nil:
		return "another table has the name now"
	case was.Name != t.Name:
		return "renamed from " + was.String()
	case !before.Has(t):
		return "added to the publication"
	case before.Main != nil && now.Main != nil && before.Main.Members[t.OID] != 0 && now.Main.Members[t.OID] != 0 &&
		before.Main.Members[t.OID] != now.Main.Members[t.OID]:
		return "taken out of the publication, and added again"
	default:
		return ""
	}
}

// partOf reports whether a table was a partition of another one.
func partOf(t *Table, ancestor uint32) bool {
	if t == nil {
		return false
	}
	for _, a := range t.Ancestors {
		if a == ancestor {
			return true
		}
	}
	return false
}

// Has reports whether one of the publications has the table.
func (st *State) Has(t *Table) bool {
	return st.Main != nil && st.Main.Has(t) || st.Inserts != nil && st.Inserts.Has(t)
}

// CameFilled reports whether a partition has rows from before it was attached: those are at least as old as the attaching, which let
// nobody write meanwhile. What was written since is in the stream, under the name of the root.
func CameFilled(ctx context.Context, conn *pgx.Conn, part *Table) (filled bool, err error) {
	var attached string
	err = conn.QueryRow(ctx, `SELECT xmin::text FROM pg_catalog.pg_inherits WHERE inhrelid = $1`, part.OID).Scan(&attached)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // detached since
	}
	if err == nil {
		err = conn.QueryRow(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT 1 FROM ONLY %s WHERE age(xmin) >= age('%s'::xid))`, part.SQL(), attached)).Scan(&filled)
	}
	if err != nil {
		return false, fmt.Errorf("looking whether the partition %s has rows from before it was attached: %w", part.Name, err)
	}
	return filled, nil
}
