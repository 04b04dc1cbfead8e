package mysqlcdc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// catalog answers questions about tables from information_schema, over a connection of its own that is opened when it is
// first needed and again when it is lost.
type catalog struct {
	srv  *server
	conn *conn
}

func (c *catalog) query(ctx context.Context, sql string) ([][]string, error) {
	for attempt := 0; ; attempt++ {
		if c.conn == nil {
			var err error
			if c.conn, err = c.srv.connect(ctx); err != nil {
				return nil, err
			}
		}
		r, err := c.conn.query(ctx, sql)
		if err == nil {
			return cells(r), nil
		}
		var my *mysql.MyError
		if errors.As(err, &my) || ctx.Err() != nil || attempt > 0 {
			return nil, err
		}
		c.close() // it may have been idle for too long
	}
}

func (c *catalog) close() {
	if c.conn != nil {
		c.conn.close()
		c.conn = nil
	}
}

// indexes returns the names of a table's indexes in the order in which the server prefers them.
func (c *catalog) indexes(ctx context.Context, db, table string) (names []string, err error) {
	rows, err := c.query(ctx, "SHOW INDEX FROM "+quoteName(table)+" FROM "+quoteName(db))
	if err != nil {
		if isServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR) {
			return nil, nil
		}
		return nil, fmt.Errorf("reading the indexes of %s.%s: %w", db, table, err)
	}
	for _, r := range rows {
		if name := r[2]; len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names, nil
}

func (c *catalog) charsets(ctx context.Context, flavor string) (charsetInfo, error) {
	info := charsetInfo{
		collations: map[uint64]string{}, byID: map[uint64]string{}, names: map[string]string{}, defaults: map[string]string{},
		widths: map[string]int{},
	}
	rows, err := c.query(ctx, "SELECT CHARACTER_SET_NAME, MAXLEN, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS")
	if err != nil {
		return info, fmt.Errorf("reading the character sets: %w", err)
	}
	for _, r := range rows {
		info.widths[r[0]], _ = strconv.Atoi(r[1])
		info.defaults[r[0]] = r[2]
	}
	query := "SELECT ID, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATIONS"
	if flavor == flavorMariaDB {
		// Since MariaDB 10.10 a collation can serve several charsets, each under an id of its own.
		query = "SELECT ID, CHARACTER_SET_NAME, FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
	}
	if rows, err = c.query(ctx, query); err != nil {
		return info, fmt.Errorf("reading the collations: %w", err)
	}
	for _, r := range rows {
		if id, err := strconv.ParseUint(r[0], 10, 64); err == nil {
			info.collations[id], info.byID[id] = r[1], r[2]
			info.names[r[2]] = r[1]
		}
	}
	return info, nil
}

// singleByteCharset asks the server what each byte of a charset means, so that text is what the server shows.
func (c *catalog) singleByteCharset(ctx context.Context, name string) (*charset, error) {
	var q strings.Builder
	for b := range 256 {
		sep := ", "
		if b == 0 {
			sep = "SELECT "
		}
		fmt.Fprintf(&q, "%sHEX(CONVERT(CONVERT(X'%02X' USING %s) USING utf8mb4))", sep, b, name)
	}
	rows, err := c.query(ctx, q.String())
	if err != nil {
		return nil, fmt.Errorf("reading the character set %s: %w", name, err)
	}
	var table [256]string
	for b, text := range rows[0] {
		utf8, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("reading the character set %s: %w", name, err)
		}
		if string(utf8) != "?" || b == '?' { // what stands for a byte that means nothing
			table[b] = string(utf8)
		}
	}
	return newSingleByteCharset(name, table), nil
}
