package binlog

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
)

// FuzzQueryVars reads any status variables in front of a known one.
func FuzzQueryVars(f *testing.F) {
	f.Add(uint64(4), uint16(33), uint16(45), "db")
	f.Add(uint64(1<<20), uint16(255), uint16(0), "")
	f.Fuzz(func(t *testing.T, mode uint64, client, server uint16, db string) {
		db = string(bytes.ReplaceAll([]byte(db), []byte{0}, nil))
		le := binary.LittleEndian
		vars := append([]byte{queryFlags2, 1, 2, 3, byte(mode)}, querySQLMode)
		vars = append(le.AppendUint64(vars, mode), queryCatalogNZ, 3)
		vars = append(append(vars, "std"...), queryAutoIncrement, 1, 0, 2, 0, queryCharset)
		vars = le.AppendUint16(le.AppendUint16(le.AppendUint16(vars, client), 8), server)
		vars = append(append(append(vars, queryTimeZone, 3), "UTC"...), queryUpdatedDBs, 2)
		vars = append(append(append(vars, db...), 0), "x\x00"...)
		vars = append(vars, queryMicroseconds, 1, 2, 3, queryDDLXid, 1, 2, 3, 4, 5, 6, 7, 8, queryDefaultUTF8MB4)
		vars = append(le.AppendUint16(vars, client), queryExplicitDefaults, 0)
		want := QueryVars{
			SQLMode: mode, Client: uint64(client), Server: uint64(server), DefaultUTF8MB4: uint64(client), ImplicitTimestamp: true,
			Databases: []string{db, "x"}, DatabasesKnown: true,
		}
		if got := ParseQueryVars(vars, product.MySQL); !reflect.DeepEqual(got, want) {
			t.Fatalf("%x is %+v, not %+v", vars, got, want)
		}
	})
}
