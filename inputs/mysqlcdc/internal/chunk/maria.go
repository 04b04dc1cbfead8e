package chunk

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
)

func lower(s string) string { return strings.ToLower(s) }

// mariaGTIDs asks MariaDB which GTIDs lie before a place in its files. It cannot be asked for a place after 4 GiB: then there are none.
func mariaGTIDs(ctx context.Context, q querier, p *gtid.Position) (*gtid.Position, error) {
	gtids := ""
	if p.Pos <= math.MaxUint32 {
		rows, err := q.Query(ctx, fmt.Sprintf("SELECT IFNULL(BINLOG_GTID_POS(%s, %d), '')", statement.Quote(p.File), p.Pos))
		if err != nil {
			return nil, fmt.Errorf("asking for the GTIDs at %s: %w", p.Place(), err)
		}
		gtids = rows[0][0]
	}
	return gtid.ParseLoosely(gtids + "@" + p.Place())
}

// MariaVisible returns a place in the log of a MariaDB such that a query sees all that is before it.
func MariaVisible(ctx context.Context, q querier) (*gtid.Position, error) {
	p, err := mariaSnapshot(ctx, q)
	if err != nil {
		return nil, err
	}
	_, err = q.Query(ctx, "ROLLBACK")
	return p, err
}
