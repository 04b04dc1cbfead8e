package binlog

import (
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// QueryVars is what a query event says about the session that ran its statement (MySQL source, Query_event, "status variables").
type QueryVars struct {
	SQLMode uint64
	// Collation ids; 0 when the event says nothing.
	Client, Server, DefaultUTF8MB4 uint64
	// ImplicitTimestamp is explicit_defaults_for_timestamp=OFF.
	ImplicitTimestamp bool
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
			c.takeNames()
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

// takeNames skips a count and as many names that end with a zero byte.
func (c *Cursor) takeNames() {
	n := c.Uint(1)
	if n == maxUpdatedDBs {
		return
	}
	for range n {
		for len(c.Rest) > 0 && c.Uint(1) != 0 {
		}
	}
}
