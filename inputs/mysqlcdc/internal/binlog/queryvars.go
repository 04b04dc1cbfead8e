package binlog

import (
	"bytes"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// QueryVars is what a query event says about the session that ran its statement (MySQL source, Query_event, "status variables").
type QueryVars struct {
	SQLMode uint64
	// Collation ids; 0 when the event says nothing.
	Client, Server, DefaultUTF8MB4 uint64
	// ImplicitTimestamp is explicit_defaults_for_timestamp=OFF.
	ImplicitTimestamp bool
	// Databases are those of the tables that the statement could change, by triggers and functions too; DatabasesKnown says that the event
	// has them. MySQL's have them, MariaDB's have not.
	Databases      []string
	DatabasesKnown bool
}

// The codes of the status variables.
const (
	queryFlags2           = 0
	querySQLMode          = 1
	queryCatalog          = 2
	queryAutoIncrement    = 3
	queryCharset          = 4
	queryTimeZone         = 5
	queryCatalogNZ        = 6
	queryLCTimeNames      = 7
	queryCharsetDatabase  = 8
	queryTableMapUpdate   = 9
	queryMasterDataBytes  = 10
	queryInvoker          = 11
	queryUpdatedDBs       = 12
	queryMicroseconds     = 13
	queryExplicitDefaults = 16
	queryDDLXid           = 17
	queryDefaultUTF8MB4   = 18
	queryRequirePrimary   = 19
	queryTableEncryption  = 20
	queryMariaHRNow       = 128
	queryMariaXID         = 129
)

// mariaExplicitDefaults is the bit of MariaDB's flags2 for explicit_defaults_for_timestamp.
const mariaExplicitDefaults = 1 << 24

// Query is a statement of the log (MySQL source, Query_event).
type Query struct {
	// Thread is the id of the session on the server, which temporary tables belong to.
	Thread uint32
	DB     string
	// Text is in the character set of the client.
	Text []byte
	Vars QueryVars
}

// ParseQuery reads a query event, also one that MariaDB has compressed. The result refers to body unless it is.
func ParseQuery(t replication.EventType, body []byte, flavor string) (q Query, err error) {
	c := Cursor{Rest: body}
	q.Thread = uint32(c.Uint(4))
	c.Take(4) // how long it ran
	dbLen := int(c.Uint(1))
	c.Take(2) // the error that it ended with, also of a part of it: what it has changed nevertheless is what counts
	vars := c.Take(int(c.Uint(2)))
	q.DB = string(c.Take(dbLen))
	c.Take(1)
	if c.Short {
		return q, ErrTruncated
	}
	q.Vars = ParseQueryVars(vars, flavor)
	q.Text = c.Rest
	if t == replication.MARIADB_QUERY_COMPRESSED_EVENT {
		q.Text, err = InflateMaria(q.Text)
	}
	return q, err
}

// ParseLoad reads a statement of LOAD DATA that is logged as such, without its rows (MySQL source, Execute_load_query_event). The text
// begins after the name of the file.
func ParseLoad(body []byte, flavor string) (q Query, err error) {
	c := Cursor{Rest: body}
	q.Thread = uint32(c.Uint(4))
	c.Take(4)
	dbLen := int(c.Uint(1))
	c.Take(2)
	varsLen := int(c.Uint(2))
	c.Take(8) // the id of the file, and where its name begins
	fileEnd := int(c.Uint(4))
	c.Take(1)
	q.Vars = ParseQueryVars(c.Take(varsLen), flavor)
	q.DB = string(c.Take(dbLen))
	c.Take(1)
	if c.Short || fileEnd > len(c.Rest) {
		return q, ErrTruncated
	}
	q.Text = c.Rest[fileEnd:]
	return q, nil
}

// maxUpdatedDBs is the number of databases above which the event does not name them.
const maxUpdatedDBs = 254

// ParseQueryVars reads the status variables as far as it knows them; those that matter come before all unknown ones.
func ParseQueryVars(p []byte, flavor string) QueryVars {
	var v QueryVars
	c := Cursor{Rest: p}
	for len(c.Rest) > 0 {
		switch c.Uint(1) {
		case queryFlags2:
			if flags := c.Uint(4); flavor == product.MariaDB && !c.Short {
				v.ImplicitTimestamp = flags&mariaExplicitDefaults == 0
			}
		case querySQLMode:
			v.SQLMode = c.Uint(8)
		case queryCatalog:
			c.Take(int(c.Uint(1)) + 1)
		case queryAutoIncrement, queryMasterDataBytes:
			c.Take(4)
		case queryCharset:
			v.Client = c.Uint(2)
			c.Take(2)
			v.Server = c.Uint(2)
		case queryTimeZone, queryCatalogNZ:
			c.Take(int(c.Uint(1)))
		case queryLCTimeNames, queryCharsetDatabase:
			c.Take(2)
		case queryTableMapUpdate, queryDDLXid, queryMariaXID:
			c.Take(8)
		case queryInvoker:
			c.Take(int(c.Uint(1)))
			c.Take(int(c.Uint(1)))
		case queryUpdatedDBs:
			v.Databases, v.DatabasesKnown = c.takeNames()
		case queryMicroseconds, queryMariaHRNow:
			c.Take(3)
		case queryExplicitDefaults:
			v.ImplicitTimestamp = c.Uint(1) == 0
		case queryDefaultUTF8MB4:
			v.DefaultUTF8MB4 = c.Uint(2)
		case queryRequirePrimary, queryTableEncryption:
			c.Take(1)
		default:
			return v
		}
	}
	return v
}

// takeNames reads a count and as many names that end with a zero byte; false when there are too many to be named.
func (c *Cursor) takeNames() (names []string, ok bool) {
	n := c.Uint(1)
	if n == maxUpdatedDBs {
		return nil, false
	}
	for range n {
		end := bytes.IndexByte(c.Rest, 0)
		if end < 0 {
			c.Short, c.Rest = true, nil
			return nil, false
		}
		names = append(names, string(c.Take(end)))
		c.Take(1)
	}
	return names, true
}
