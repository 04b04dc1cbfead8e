package catalog

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/shape"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
)

// Reading is what the catalogue shows, and where.
type Reading struct {
	State shape.State
	// Exact are the tables that are known to have had this shape at a position; they have it as AsOf. The others have a later one.
	Exact []*shape.Table
	At    *gtid.Position
	// Settled says that all captured tables are exact.
	Settled bool
}

// Read reads the shapes of the databases that want accepts, the end of the log, and the shapes again. A statement is in the log before its
// table has changed for others (MySQL), or after that (MariaDB), and keeps the table locked from before the first to after the second. So
// it waits for the locks of captured tables both before and after it asks for the end of the log: a table that then looks as it did before
// had this shape there.
func (c *Catalog) Read(ctx context.Context, flavor string, want func(db string) bool, captured func(db, table string) bool,
	endOfLog func(context.Context) (*gtid.Position, error),
) (r Reading, err error) {
	first, err := c.State(ctx, flavor, want)
	if err != nil {
		return r, err
	}
	var tables []statement.TableName
	for db, d := range first {
		for name := range d.Tables {
			if captured(db, name) {
				tables = append(tables, statement.TableName{DB: db, Table: name})
			}
		}
	}
	busy := map[statement.TableName]bool{}
	if err = c.settle(ctx, tables, busy); err != nil {
		return r, err
	}
	if r.At, err = endOfLog(ctx); err != nil {
		return r, err
	}
	if err = c.settle(ctx, tables, busy); err != nil {
		return r, err
	}
	if r.State, err = c.State(ctx, flavor, want); err != nil {
		return r, err
	}
	later, err := endOfLog(ctx)
	if err != nil {
		return r, err
	}
	r.Settled = true
	for db, d := range r.State {
		for name, t := range d.Tables {
			if reflect.DeepEqual(first.Table(db, name), t) && !busy[statement.TableName{DB: db, Table: name}] {
				t.AsOf = r.At.String()
				r.Exact = append(r.Exact, t)
				continue
			}
			t.AsOf = later.String()
			r.Settled = r.Settled && !captured(db, name)
		}
	}
	return r, nil
}

// settleTimeout is how long a table may be locked, in seconds, before it is left out.
const settleTimeout = 5

// settle waits until the statements that change one of the tables now have ended. Tables that stay locked are added to busy.
func (c *Catalog) settle(ctx context.Context, tables []statement.TableName, busy map[statement.TableName]bool) error {
	if len(tables) == 0 {
		return nil
	}
	if _, err := c.Query(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d", settleTimeout)); err != nil {
		return err
	}
	for _, n := range tables {
		if busy[n] {
			continue
		}
		_, err := c.Query(ctx, "SELECT 1 FROM "+n.SQL()+" LIMIT 0")
		var my *mysql.MyError
		switch {
		case err == nil:
		case wire.IsServerError(err, mysql.ER_LOCK_WAIT_TIMEOUT):
			busy[n] = true
		case !errors.As(err, &my): // else it is gone, or cannot be read, which says nothing about a statement
			return err
		}
	}
	return nil
}
