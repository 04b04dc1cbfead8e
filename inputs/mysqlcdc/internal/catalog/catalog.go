// Package catalog is what the server says of itself over SQL: tables, indexes, collations, and what the bytes of its character sets mean.
package catalog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/charset"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/wire"
)

// Catalog answers questions about tables from information_schema, over a connection of its own that is opened when it is
// first needed and again when it is lost.
type Catalog struct {
	Server *wire.Server
	conn   *wire.Conn
}

// Query runs a statement and returns its rows as text, in which NULL is empty. A connection that was lost is opened again, once.
func (c *Catalog) Query(ctx context.Context, sql string) ([][]string, error) {
	for attempt := 0; ; attempt++ {
		if c.conn == nil {
			var err error
			if c.conn, err = c.Server.Connect(ctx); err != nil {
				return nil, err
			}
		}
		rows, err := c.conn.Query(ctx, sql)
		if err == nil {
			return rows, nil
		}
		var my *mysql.MyError
		if errors.As(err, &my) || ctx.Err() != nil || attempt > 0 {
			return nil, err
		}
		c.Close() // it may have been idle for too long
	}
}

// Close closes the connection, if there is one; another query opens it again.
func (c *Catalog) Close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// indexes returns the names of a table's indexes in the order in which the server prefers them.
func (c *Catalog) indexes(ctx context.Context, db, table string) (names []string, err error) {
	rows, err := c.Query(ctx, "SHOW INDEX FROM "+statement.QuoteName(table)+" FROM "+statement.QuoteName(db))
	if err != nil {
		if wire.IsServerError(err, mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR) {
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

// Charsets asks for the collations and character sets that the server lists.
func (c *Catalog) Charsets(ctx context.Context, flavor string) (charset.Info, error) {
	info := charset.Info{
		Collations: map[uint64]string{}, ByID: map[uint64]string{}, Names: map[string]string{}, Defaults: map[string]string{},
		Widths: map[string]int{},
	}
	rows, err := c.Query(ctx, "SELECT CHARACTER_SET_NAME, MAXLEN, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS")
	if err != nil {
		return info, fmt.Errorf("reading the character sets: %w", err)
	}
	for _, r := range rows {
		info.Widths[r[0]], _ = strconv.Atoi(r[1])
		info.Defaults[r[0]] = r[2]
	}
	query := "SELECT ID, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.COLLATIONS"
	if flavor == product.MariaDB {
		// Since MariaDB 10.10 a collation can serve several charsets, each under an id of its own.
		query = "SELECT ID, CHARACTER_SET_NAME, FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
	}
	if rows, err = c.Query(ctx, query); err != nil {
		return info, fmt.Errorf("reading the collations: %w", err)
	}
	for _, r := range rows {
		if id, err := strconv.ParseUint(r[0], 10, 64); err == nil {
			info.Collations[id], info.ByID[id] = r[1], r[2]
			info.Names[r[2]] = r[1]
		}
	}
	return info, nil
}

// SingleByteCharset asks the server what each byte of a charset means, so that text is what the server shows.
func (c *Catalog) SingleByteCharset(ctx context.Context, name string) (*charset.Charset, error) {
	var q strings.Builder
	for b := range 256 {
		sep := ", "
		if b == 0 {
			sep = "SELECT "
		}
		fmt.Fprintf(&q, "%sHEX(CONVERT(CONVERT(X'%02X' USING %s) USING utf8mb4))", sep, b, name)
	}
	rows, err := c.Query(ctx, q.String())
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
	return charset.NewSingleByte(name, table), nil
}
