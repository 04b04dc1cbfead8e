package catalog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
)

// LogFile is a file of the binlog.
type LogFile struct {
	Name string
	Size uint64
}

// BytesAfter returns how much of the files is after a place; false: none of them has it, and it is in no newer one.
func BytesAfter(files []LogFile, p *gtid.Position) (n int64, known bool) {
	for _, f := range files {
		switch {
		case known:
			n += int64(f.Size)
		case f.Name == p.File:
			known = true
			n = max(int64(f.Size)-int64(p.Pos), 0)
		}
	}
	if !known { // the place may be in a file that is newer than the list
		return 0, len(files) > 0 && gtid.Newer(p.File, files[len(files)-1].Name)
	}
	return n, true
}

// encryptionHeader is what an encrypted file of MySQL has before its first byte, and what places do not count.
const encryptionHeader = 512

// IsLarge reports whether a file is so long that the 32 bits of headers do not say where in it an event is. One that is not known may be.
func IsLarge(files *[]LogFile, name string) bool {
	if files == nil {
		return true
	}
	for _, f := range *files {
		if f.Name == name {
			return f.Size > math.MaxUint32
		}
	}
	return true
}

// AnyLarge reports whether one of the files is so long.
func AnyLarge(files *[]LogFile) bool {
	return files == nil || slices.ContainsFunc(*files, func(f LogFile) bool { return f.Size > math.MaxUint32 })
}

// LogFiles returns the files of the binlog, oldest first. There is at least one.
func (c *Catalog) LogFiles(ctx context.Context) ([]LogFile, error) {
	rows, err := c.Query(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, fmt.Errorf("listing the binlog files: %w", err)
	}
	files := make([]LogFile, 0, len(rows))
	for _, r := range rows {
		size, err := strconv.ParseUint(r[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("listing the binlog files: size %q", r[1])
		}
		if len(r) > 2 && strings.EqualFold(r[2], "Yes") && size >= encryptionHeader {
			size -= encryptionHeader
		}
		files = append(files, LogFile{r[0], size})
	}
	if len(files) == 0 {
		return nil, errors.New("listing the binlog files: the server has none")
	}
	return files, nil
}

// End is where the binlog ends, as the server says it.
type End struct {
	At       gtid.Position // the place alone
	Executed string        // the GTIDs before it; empty where the server does not say
	// Do and Ignore are the options binlog-do-db and binlog-ignore-db.
	Do, Ignore string
}

// LogEnd asks where the binlog ends.
func (c *Catalog) LogEnd(ctx context.Context) (e End, err error) {
	rows, err := c.Query(ctx, "SHOW BINARY LOG STATUS") // MySQL 8.2 and later
	if wire.IsServerError(err, mysql.ER_PARSE_ERROR) {
		rows, err = c.Query(ctx, "SHOW MASTER STATUS")
	}
	if err != nil {
		return e, fmt.Errorf("asking for the end of the binlog: %w", err)
	}
	if len(rows) == 0 || len(rows[0]) < 2 {
		return e, errors.New("asking for the end of the binlog: the server names none")
	}
	r := rows[0]
	if len(r) >= 4 {
		e.Do, e.Ignore = r[2], r[3]
	}
	if len(r) > 4 {
		e.Executed = r[4]
	}
	e.At.File = r[0]
	if e.At.Pos, err = strconv.ParseUint(r[1], 10, 64); err != nil {
		return e, fmt.Errorf("asking for the end of the binlog: position %q", r[1])
	}
	return e, nil
}

// MariaGTIDsAt asks MariaDB which GTIDs lie before a place in its files, whose number has 32 bits there.
func (c *Catalog) MariaGTIDsAt(ctx context.Context, p *gtid.Position) (*gtid.Position, error) {
	rows, err := c.Query(ctx, fmt.Sprintf("SELECT IFNULL(BINLOG_GTID_POS(%s, %d), '')", statement.Quote(p.File), p.Pos))
	if err != nil {
		return nil, fmt.Errorf("asking for the GTIDs at %s: %w", p.Place(), err)
	}
	set, err := gtid.ParseLoosely(rows[0][0] + "@" + p.Place())
	if err != nil {
		return nil, fmt.Errorf("asking for the GTIDs at %s: %w", p.Place(), err)
	}
	return set, nil
}

// MayReplicate reports whether the account has REPLICATION SLAVE, and with which error the server says that it has not, if it does. Where
// the account has roles it is taken to have it: what they grant shows when the dump begins.
func (c *Catalog) MayReplicate(ctx context.Context, flavor string) (may bool, refused, err error) {
	if flavor == product.MySQL {
		// SHOW REPLICAS takes just this privilege; it is SHOW SLAVE HOSTS before 8.0.22.
		_, err := c.Query(ctx, "SHOW REPLICAS")
		if wire.IsServerError(err, mysql.ER_PARSE_ERROR) {
			_, err = c.Query(ctx, "SHOW SLAVE HOSTS")
		}
		if wire.IsServerError(err, mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR) {
			return false, err, nil
		}
		return true, nil, err
	}
	rows, err := c.Query(ctx, "SHOW GRANTS")
	if err != nil {
		return false, nil, err
	}
	for _, r := range rows {
		g := strings.ToUpper(r[0])
		global := strings.Contains(g, " ON *.* ")
		if global && (strings.Contains(g, "ALL PRIVILEGES") || strings.Contains(g, "REPLICATION SLAVE")) || !strings.Contains(g, " ON ") {
			return true, nil, nil
		}
	}
	return false, nil, nil
}
