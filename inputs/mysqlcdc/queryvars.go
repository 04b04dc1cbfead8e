package mysqlcdc

// queryVars is what a query event says about the session that ran its statement (MySQL source, Query_event, "status variables").
type queryVars struct {
	sqlMode uint64
	// Collation ids; 0 when the event says nothing.
	client, server, defaultUTF8MB4 uint64
	// implicitTimestamp is explicit_defaults_for_timestamp=OFF.
	implicitTimestamp bool
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

// parseQueryVars reads the status variables as far as it knows them; those that matter come before all unknown ones.
func parseQueryVars(p []byte, flavor string) queryVars {
	var v queryVars
	c := cursor{b: p}
	for len(c.b) > 0 {
		switch c.uint(1) {
		case queryFlags2:
			if flags := c.uint(4); flavor == flavorMariaDB && !c.short {
				v.implicitTimestamp = flags&mariaExplicitDefaults == 0
			}
		case querySQLMode:
			v.sqlMode = c.uint(8)
		case queryCatalog:
			c.take(int(c.uint(1)) + 1)
		case queryAutoIncrement, queryMasterDataBytes:
			c.take(4)
		case queryCharset:
			v.client = c.uint(2)
			c.take(2)
			v.server = c.uint(2)
		case queryTimeZone, queryCatalogNZ:
			c.take(int(c.uint(1)))
		case queryLCTimeNames, queryCharsetDatabase:
			c.take(2)
		case queryTableMapUpdate, queryDDLXid, queryMariaXID:
			c.take(8)
		case queryInvoker:
			c.take(int(c.uint(1)))
			c.take(int(c.uint(1)))
		case queryUpdatedDBs:
			c.takeNames()
		case queryMicroseconds, queryMariaHRNow:
			c.take(3)
		case queryExplicitDefaults:
			v.implicitTimestamp = c.uint(1) == 0
		case queryDefaultUTF8MB4:
			v.defaultUTF8MB4 = c.uint(2)
		case queryRequirePrimary, queryTableEncryption:
			c.take(1)
		default:
			return v
		}
	}
	return v
}

// takeNames skips a count and as many names that end with a zero byte.
func (c *cursor) takeNames() {
	n := c.uint(1)
	if n == maxUpdatedDBs {
		return
	}
	for range n {
		for len(c.b) > 0 && c.uint(1) != 0 {
		}
	}
}
