package postgrescdc

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/internal/coordinator"
)

// fakeServer is a PostgreSQL that knows the statements of a source and nothing else. It answers from the fields, which a test may change while it
// holds mu, and streams what the test sends.
type fakeServer struct {
	t   testing.TB
	dsn string

	mu       sync.Mutex
	version  int
	super    bool
	standby  bool
	system   string
	timeline int
	history  string
	end      lsn.LSN
	slot     string              // row_to_json of pg_replication_slots; empty: none
	pubs     map[string]*fakePub // by name
	tables   []fakeTable
	refuse   map[string]string // SQLSTATE of statements that contain the key
	done     []string          // statements that change something
	changes  int               // of the catalogue

	stream chan pgproto3.BackendMessage // of the newest replication connection
	status chan [3]lsn.LSN              // written, flushed and applied of each status update
}

type fakePub struct {
	oid     uint32
	members []uint32
	all     bool
}

type fakeTable struct {
	oid          uint32
	schema, name string
	keyless      bool
}

func newFake(t testing.TB) *fakeServer {
	f := &fakeServer{
		t: t, version: 160000, system: "7301", timeline: 1, end: 0x2000, pubs: map[string]*fakePub{}, refuse: map[string]string{},
		tables: []fakeTable{{oid: 20001, schema: "public", name: "item"}}, stream: make(chan pgproto3.BackendMessage), status: make(chan [3]lsn.LSN, 10000),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	require.NoError(t, err)
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(conn, ended) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(ended)
		wg.Wait()
	})
	f.dsn = "postgres://u:p@" + l.Addr().String() + "/shop?sslmode=disable&default_query_exec_mode=simple_protocol"
	return f
}

// source is a source of the fake, its publication and its slot there unless fresh.
func (f *fakeServer) source(yaml string, fresh bool) (*replication, *testLog) {
	f.t.Helper()
	if !fresh {
		f.slotAt(0x1000)
		f.pubs["deltaforge_shop"] = &fakePub{oid: 30001, members: []uint32{20001}}
	}
	r, log, err := makeSource("shop", f.dsn, yaml)
	require.NoError(f.t, err)
	return r, log
}

func (f *fakeServer) slotAt(at lsn.LSN) {
	f.slot = fmt.Sprintf(`{"plugin":"pgoutput","slot_type":"logical","database":"shop","confirmed_flush_lsn":"%s","wal_status":"reserved"}`, at)
}

func (f *fakeServer) serve(conn net.Conn, ended chan struct{}) {
	defer conn.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-ended:
			_ = conn.Close()
		case <-stop:
		}
	}()
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"client_encoding": "UTF8", "server_encoding": "UTF8", "standard_conforming_strings": "on"} {
		b.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	b.Send(&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		q, ok := m.(*pgproto3.Query)
		if !ok {
			return
		}
		if strings.HasPrefix(q.String, "START_REPLICATION") && f.allowed(b, q.String) {
			f.replicate(b, q.String, ended)
			return
		}
		f.answer(b, q.String)
	}
}

func (f *fakeServer) replicate(b *pgproto3.Backend, sql string, ended chan struct{}) {
	f.mu.Lock()
	f.done = append(f.done, sql)
	f.mu.Unlock()
	b.Send(&pgproto3.CopyBothResponse{})
	_ = b.Flush()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			m, err := b.Receive()
			if err != nil {
				return
			}
			if d, ok := m.(*pgproto3.CopyData); ok && len(d.Data) == 34 && d.Data[0] == 'r' {
				at := func(i int) lsn.LSN { return lsn.LSN(binary.BigEndian.Uint64(d.Data[i:])) }
				f.status <- [3]lsn.LSN{at(1), at(9), at(17)}
			}
			if _, ok := m.(*pgproto3.Terminate); ok {
				return
			}
		}
	}()
	for {
		select {
		case m := <-f.stream:
			b.Send(m)
			_ = b.Flush()
		case <-gone:
			return
		case <-ended:
			return
		}
	}
}

// allowed answers a statement that is to be refused.
func (f *fakeServer) allowed(b *pgproto3.Backend, sql string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for part, code := range f.refuse {
		if strings.Contains(sql, part) {
			b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: "refused"})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			_ = b.Flush()
			return false
		}
	}
	return true
}

// The OIDs of the types of columns.
const (
	fakeBool, fakeInt, fakeText, fakeOID, fakeOIDs, fakeTexts = 16, 23, 25, 26, 1028, 1009
)

// answer answers one statement.
func (f *fakeServer) answer(b *pgproto3.Backend, sql string) {
	if !f.allowed(b, sql) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	types, rows := f.rows(sql)
	if types != nil {
		fields := make([]pgproto3.FieldDescription, len(types))
		for i, t := range types {
			fields[i] = pgproto3.FieldDescription{Name: fmt.Appendf(nil, "c%d", i), DataTypeOID: t}
		}
		b.Send(&pgproto3.RowDescription{Fields: fields})
		for _, row := range rows {
			values := make([][]byte, len(row))
			for i, v := range row {
				if v != nil {
					values[i] = fmt.Append(nil, v)
				}
			}
			b.Send(&pgproto3.DataRow{Values: values})
		}
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
}

func tf(v bool) string {
	if v {
		return "t"
	}
	return "f"
}

// rows returns the answer to a query, or does what a statement says.
func (f *fakeServer) rows(sql string) (types []uint32, rows [][]any) {
	has := func(part string) bool { return strings.Contains(sql, part) }
	one := func(typ uint32, v any) ([]uint32, [][]any) { return []uint32{typ}, [][]any{{v}} }
	switch {
	case has("server_version_num"):
		return []uint32{fakeInt, fakeText, fakeInt, fakeInt, fakeInt, fakeInt, fakeBool, fakeBool, fakeText, fakeText, fakeBool, fakeBool},
			[][]any{{f.version, "logical", 10, 10, 1, 1, tf(f.super), "t", "u", "shop", "t", tf(f.standby)}}
	case has("pg_control_system"):
		return one(fakeText, f.system)
	case has("row_to_json(s)"):
		if f.slot == "" {
			return []uint32{fakeText}, nil
		}
		return one(fakeText, f.slot)
	case has("SELECT c.oid, n.nspname"):
		types = []uint32{fakeOID, fakeText, fakeText, fakeBool, fakeOIDs, fakeBool, fakeText, fakeBool, fakeBool, fakeBool, fakeBool, fakeBool, fakeBool}
		for _, t := range f.tables {
			rows = append(rows, []any{t.oid, t.schema, t.name, "f", nil, "t", "d", tf(!t.keyless), "f", "f", "f", "f", "f"})
		}
		return types, rows
	case has("row_to_json(p)::text, coalesce"):
		for name, p := range f.pubs {
			if has("'" + name + "'") {
				text := fmt.Sprintf(`{"oid":"%d","puballtables":%t,"pubviaroot":true,"pubinsert":true,"pubupdate":true,"pubdelete":true,"pubtruncate":true}`, p.oid, p.all)
				return []uint32{fakeText, fakeBool}, [][]any{{text, "t"}}
			}
		}
		return []uint32{fakeText, fakeBool}, nil
	case has("FROM pg_publication_rel WHERE"):
		for _, p := range f.pubs {
			if has(fmt.Sprint(p.oid)) {
				for _, m := range p.members {
					rows = append(rows, []any{m, m + 1000})
				}
			}
		}
		return []uint32{fakeOID, fakeOID}, rows
	case has("FROM pg_publication_namespace JOIN"):
		return []uint32{fakeText}, nil
	case has("hashtextextended"):
		return one(fakeText, f.changes)
	case has("IDENTIFY_SYSTEM"):
		return []uint32{fakeText, fakeText, fakeText, fakeText}, [][]any{{f.system, f.timeline, f.end, "shop"}}
	case has("TIMELINE_HISTORY"):
		return []uint32{fakeText, fakeText}, [][]any{{"x.history", f.history}}
	case has("CREATE_REPLICATION_SLOT"):
		f.slotAt(f.end)
		f.done = append(f.done, sql)
		return []uint32{fakeText, fakeText, fakeText, fakeText}, [][]any{{"s", f.end, nil, "pgoutput"}}
	case has("pg_current_wal"):
		return one(fakeText, f.end)
	case has("pg_is_in_recovery()"):
		return one(fakeBool, tf(f.standby))
	case has("FROM pg_catalog.pg_attribute"):
		return []uint32{fakeText, fakeOID, fakeInt, fakeBool, fakeText, fakeText}, [][]any{{"id", 23, -1, "t", nil, nil}}
	case has("array_agg(a.attname"):
		return one(fakeTexts, "{id}")
	case has("FROM pg_catalog.pg_type"):
		return []uint32{fakeText, fakeText, fakeText, fakeText, fakeOID, fakeOID, fakeInt, fakeOID, fakeText}, [][]any{{"int4", "integer", "b", "N", 0, 0, -1, 0, ","}}
	case strings.HasPrefix(sql, "CREATE PUBLICATION"):
		name := strings.Split(sql, `"`)[1]
		f.pubs[name] = &fakePub{oid: uint32(30001 + len(f.pubs)), all: has("FOR ALL TABLES")} //nolint:gosec // few
		f.members(f.pubs[name], sql)
	case strings.HasPrefix(sql, "ALTER PUBLICATION"):
		f.members(f.pubs[strings.Split(sql, `"`)[1]], sql)
	}
	if strings.Contains(sql, "PUBLICATION") {
		f.done = append(f.done, sql)
		f.changes++
	}
	return nil, nil
}

func (f *fakeServer) members(p *fakePub, sql string) {
	for _, t := range f.tables {
		if strings.Contains(sql, `"`+t.schema+`"."`+t.name+`"`) {
			p.members = append(p.members, t.oid)
		}
	}
}

// send streams messages of the server.
func (f *fakeServer) send(messages ...pgproto3.BackendMessage) {
	f.t.Helper()
	for _, m := range messages {
		select {
		case f.stream <- m:
		case <-time.After(waitFor):
			require.Fail(f.t, "nobody reads the stream")
		}
	}
}

// reported waits for a status update with a flushed position.
func (f *fakeServer) reported(flushed lsn.LSN) [3]lsn.LSN {
	f.t.Helper()
	for end := time.After(waitFor); ; {
		select {
		case s := <-f.status:
			if s[1] == flushed {
				return s
			}
		case <-end:
			require.Fail(f.t, "no such status", "%s", flushed)
		}
	}
}

// The messages of a stream.

func copyData(parts ...any) *pgproto3.CopyData {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case byte:
			b = append(b, p)
		case lsn.LSN:
			b = binary.BigEndian.AppendUint64(b, uint64(p))
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return &pgproto3.CopyData{Data: b}
}

func walAt(at lsn.LSN, parts ...any) *pgproto3.CopyData {
	return copyData(append([]any{byte('w'), at, at, lsn.LSN(0)}, parts...)...)
}

func alive(end lsn.LSN) *pgproto3.CopyData { return copyData(byte('k'), end, lsn.LSN(0), byte(0)) }

func beginAt(final lsn.LSN, xid uint32) *pgproto3.CopyData {
	return walAt(final-0x10, byte(pgoutput.MsgBegin), final, lsn.LSN(1), xid)
}

func commitAt(final lsn.LSN) *pgproto3.CopyData {
	return walAt(final, byte(pgoutput.MsgCommit), byte(0), final, final+8, lsn.LSN(1))
}

func itemRelation() *pgproto3.CopyData {
	return walAt(0, byte(pgoutput.MsgRelation), uint32(20001), "public\x00item\x00", byte('d'), uint16(1), byte(1), "id\x00", uint32(23), uint32(0xffffffff))
}

func insertItem(at lsn.LSN, id string) *pgproto3.CopyData {
	return walAt(at, byte(pgoutput.MsgInsert), uint32(20001), byte(pgoutput.TupleNew), uint16(1), byte(pgoutput.TupleText), uint32(len(id)), id) //nolint:gosec // short
}

// transaction is one with an insert for each id; its commit record is at final, and it ends 8 after that.
func transaction(final lsn.LSN, xid uint32, ids ...string) []pgproto3.BackendMessage {
	list := []pgproto3.BackendMessage{beginAt(final, xid), itemRelation()}
	for i, id := range ids {
		list = append(list, insertItem(final-lsn.LSN(len(ids)-i), id))
	}
	return append(list, commitAt(final))
}

// item is the event of an insert.
func item(ids ...string) (texts []string) {
	for _, id := range ids {
		texts = append(texts, `c item {"before":null,"after":{"id":`+id+`}}`)
	}
	return texts
}

// onFake is the harness of a Run on the fake.
func (f *fakeServer) on() *database { return &database{t: f.t, dsn: f.dsn, name: "shop"} }

var _ coordinator.Log = (*replication)(nil)
