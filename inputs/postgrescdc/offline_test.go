package postgrescdc

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/pgoutput"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// What a session does with what a server sends, on a fake of one.

func token(p Position, sent uint64) checkpoint.Token {
	return checkpoint.Token{Source: "7301/1", Commit: p, Sent: sent}
}

// TestOfflineFirstStart makes publication and slot, reads, and confirms what is saved: what is written may be ahead of that.
func TestOfflineFirstStart(t *testing.T) {
	f := newFake(t)
	f.super = true
	r, log := f.source("", true)
	s := f.on().run(r, checkpoint.Token{})
	require.Equal(t, Position{At: 0x2000}, s.last.Commit)
	require.Equal(t, "7301/1", s.last.Source)
	f.send(transaction(0x2100, 7, "1", "2")...)
	require.Equal(t, item("1", "2"), shorts(t, s.events(2)))
	require.Equal(t, Position{At: 0x2108, Last: 0x2108, XID: 7}, s.last.Commit)
	first := s.last
	f.send(transaction(0x2200, 8, "3")...)
	require.Equal(t, item("3"), shorts(t, s.events(1)))
	r.Confirm(first)
	require.Equal(t, [3]lsn.LSN{0x2208, 0x2108, 0x2108}, f.reported(0x2108), "written, flushed, applied")
	r.Confirm(token(Position{At: 1}, 0)) // late
	r.Confirm(s.last)
	f.reported(0x2208)
	s.close()
	require.ErrorIs(t, s.err, s.err)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(t, []string{
		`CREATE PUBLICATION "deltaforge_shop" FOR TABLE ONLY "public"."item" WITH (publish_via_partition_root = true)`,
		`COMMENT ON PUBLICATION "deltaforge_shop" IS 'made by deltaforge for the source shop'`,
		`CREATE PUBLICATION "deltaforge_shop_inserts" FOR ALL TABLES WITH (publish = 'insert, truncate', publish_via_partition_root = true)`,
		`COMMENT ON PUBLICATION "deltaforge_shop_inserts" IS 'made by deltaforge for the source shop'`,
		`CREATE_REPLICATION_SLOT "deltaforge_shop" LOGICAL pgoutput NOEXPORT_SNAPSHOT`,
		`START_REPLICATION SLOT "deltaforge_shop" LOGICAL 0/2000 (proto_version '1', messages 'true', publication_names '"deltaforge_shop","deltaforge_shop_inserts"')`,
	}, normalSpace(f.done))
	require.Contains(t, log.all(), "starts at 0/2000: the rows that the tables hold already are not read")
}

func normalSpace(list []string) (out []string) {
	for _, s := range list {
		for i := 0; i+1 < len(s); i++ {
			if s[i] == ' ' && s[i+1] == ' ' {
				s = s[:i] + s[i+1:]
				i--
			}
		}
		out = append(out, s)
	}
	return out
}

// TestOfflineKeepalive: inside of a transaction, and before one of which a part is delivered, a keepalive is no position.
func TestOfflineKeepalive(t *testing.T) {
	f := newFake(t)
	r, _ := f.source("", false)
	from := Position{At: 0x1000, Last: 0x1000, XID: 3}
	s := f.on().run(r, token(from, 2))
	s.noCommit = true
	f.send(alive(0x1050))
	f.send(beginAt(0x1070, 6), commitAt(0x1070)) // nothing for us: what is delivered is of the one after it
	f.send(beginAt(0x1100, 7), itemRelation(), insertItem(0x10f0, "1"), insertItem(0x10f1, "2"), insertItem(0x10f2, "3"), alive(0x9000), insertItem(0x10f3, "4"))
	var got []string
	for len(got) < 2 {
		seg := s.next()
		require.Nil(t, seg.Commit, "inside of the transaction")
		if seg.Rows != nil {
			batch, err := seg.Rows.Decode(t.Context(), nil)
			require.NoError(t, err)
			got = append(got, shorts(t, batch)...)
		}
	}
	require.Equal(t, item("3", "4"), got)
	f.send(commitAt(0x1100))
	require.Equal(t, Position{At: 0x1108, Last: 0x1108, XID: 7}, s.next().Commit)
	f.send(beginAt(0x1150, 8), alive(0x9000), insertItem(0x1140, "5"), alive(0x9001))
	require.Nil(t, s.next().Commit, "inside of the transaction")
	f.send(alive(0x9002), commitAt(0x1150))
	require.Equal(t, Position{At: 0x1158, Last: 0x1158, XID: 8}, s.next().Commit)
	f.send(beginAt(0x1180, 9), commitAt(0x1180))
	require.Equal(t, Position{At: 0x1188, Last: 0x1158, XID: 8}, s.next().Commit)
	f.send(alive(0x1200))
	for s.last.Commit != (Position{At: 0x1200, Last: 0x1158, XID: 8}) {
		f.send(alive(0x1200)) // one that comes too soon after another waits
		s.next()
	}
}

// TestOfflineProof has a slot that is before what was read: the newest transaction that was read must come.
func TestOfflineProof(t *testing.T) {
	read := Position{At: 0x1500, Last: 0x1308, XID: 9}
	before := transaction(0x1200, 8, "1")
	message := walAt(0x1280, byte(pgoutput.MsgMessage), byte(0), lsn.LSN(0x1280), "p\x00", uint32(1), "x")
	for name, c := range map[string]struct {
		send []pgproto3.BackendMessage
		lost bool
	}{
		"the same":      {append(append(append(before, message), transaction(0x1300, 9, "2", "3")...), transaction(0x1600, 10, "4")...), false},
		"another":       {append(before, transaction(0x1300, 10, "2")...), true},
		"across":        {append(before, transaction(0x1304, 9, "2")...), true},
		"after":         {transaction(0x1310, 9, "2"), true},
		"only the end":  {append(before, alive(0x1308)), true},
		"beyond":        {[]pgproto3.BackendMessage{alive(0x1700)}, true},
		"keepalive too": {append(append(append(before, alive(0x1210)), transaction(0x1300, 9, "2")...), transaction(0x1600, 10, "4")...), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			r, _ := f.source("", false)
			r.Confirm(token(read, 0)) // as the coordinator does with what is saved
			s := f.on().run(r, token(read, 0))
			f.mu.Lock()
			require.Contains(t, normalSpace(f.done)[0], `LOGICAL 0/1000 (`, "from where the slot is")
			f.mu.Unlock()
			if !c.lost {
				f.send(c.send...)
				require.Equal(t, item("4"), shorts(t, s.events(1)))
				require.Equal(t, Position{At: 0x1608, Last: 0x1608, XID: 10}, s.last.Commit)
				f.reported(read.At)
				return
			}
			go func() {
				for _, m := range c.send {
					select {
					case f.stream <- m:
					case <-s.done:
					}
				}
			}()
			err := s.fails()
			require.ErrorIs(t, err, fault.ErrPositionLost)
			require.ErrorContains(t, err, "does not have the transaction 9, which was read and ends at 0/1308")
			require.ErrorContains(t, err, "`deltaforge checkpoint reset shop`")
		})
	}
}

// TestOfflineStart has servers whose log is not the one that was read, and some that cannot be read from.
func TestOfflineStart(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(f *fakeServer)
		yaml string
		from checkpoint.Token
		want []string // of the error; none: it starts
		lost bool
		kind fault.Kind
	}{
		"as it was":   {nil, "", token(Position{At: 0x1000}, 0), nil, false, ""},
		"first start": {nil, "", checkpoint.Token{}, nil, false, ""},
		"put back":    {func(f *fakeServer) { f.end = 0x1200 }, "", token(Position{At: 0x1300}, 0), []string{"log ends at 0/1200, before 0/1300"}, true, ""},
		"put back to after the newest": {
			func(f *fakeServer) { f.end = 0x1200 }, "", token(Position{At: 0x1300, Last: 0x1200, XID: 1}, 0), nil, false, "",
		},
		"put back to before the newest": {
			func(f *fakeServer) { f.end = 0x1200 }, "", token(Position{At: 0x1300, Last: 0x1201, XID: 1}, 0), []string{"log ends at 0/1200, before 0/1201"}, true, "",
		},
		"standby": {
			func(f *fakeServer) { f.end, f.standby = 0x1200, true }, "", token(Position{At: 0x1300}, 0),
			[]string{"the standby's log ends at 0/1200", "waiting"},
			false,
			fault.KindConnect,
		},
		"another server": {func(f *fakeServer) { f.system = "9" }, "", token(Position{At: 0x1000}, 0), []string{"system identifier 7301, this one is 9"}, true, ""},
		"another server that does not say": {
			func(f *fakeServer) { f.system, f.refuse["pg_control_system"] = "9", "42501" }, "", token(Position{At: 0x1000}, 0),
			[]string{"system identifier 7301, this one is 9"},
			true, "",
		},
		"promoted": {
			func(f *fakeServer) { f.timeline, f.history = 2, "1\t0/1800\tx\n" }, "", token(Position{At: 0x1000}, 0), nil, false, "",
		},
		"promoted too early": {
			func(f *fakeServer) { f.timeline, f.history = 2, "1\t0/1800\tx\n" }, "", token(Position{At: 0x1900}, 0), []string{"0/1900 on timeline 1 is after 0/1800"}, true, "",
		},
		"promoted after the newest": {
			func(f *fakeServer) { f.timeline, f.history = 2, "1\t0/1800\tx\n" }, "", token(Position{At: 0x1900, Last: 0x1000, XID: 1}, 0), nil, false, "",
		},
		"an older timeline": {nil, "", checkpoint.Token{Source: "7301/2", Commit: Position{At: 0x1000}}, []string{"timeline 2, which is not in the history"}, true, ""},
		"no timeline":       {nil, "", checkpoint.Token{Source: "7301/x", Commit: Position{At: 0x1000}}, []string{"is not a number"}, false, fault.KindOther},
		"no position":       {nil, "", checkpoint.Token{Source: "7301/1", Commit: checkpoint.Text("7")}, []string{"saved position 7"}, false, fault.KindOther},
		"history refused":   {func(f *fakeServer) { f.timeline, f.refuse["TIMELINE_HISTORY"] = 2, "42501" }, "", token(Position{At: 0x1000}, 0), []string{"reading the history of timeline 2"}, false, fault.KindPermission},
		"no slot":           {func(f *fakeServer) { f.slot = "" }, "", token(Position{At: 0x1000}, 0), []string{"slot deltaforge_shop is gone", "if the slot is there"}, true, ""},
		"slot advanced":     {nil, "", token(Position{At: 0xfff}, 0), []string{"starts at 0/1000, ahead of the saved position 0/FFF"}, true, ""},
		"slot invalidated": {func(f *fakeServer) {
			f.slot = `{"plugin":"pgoutput","slot_type":"logical","database":"shop","confirmed_flush_lsn":"0/1","wal_status":"lost"}`
		}, "", checkpoint.Token{}, []string{"(wal_status lost)", "after its position"}, true, ""},
		"slot of a plugin": {func(f *fakeServer) { f.slot = `{"plugin":"x","slot_type":"logical"}` }, "", checkpoint.Token{}, []string{`the plugin "x", want logical with pgoutput`}, false, fault.KindOther},
		"slot in use": {func(f *fakeServer) {
			f.slot = `{"plugin":"pgoutput","slot_type":"logical","database":"shop","active_pid":5,"confirmed_flush_lsn":"0/1000"}`
		}, "", checkpoint.Token{}, []string{"in use by the server process 5"}, false, fault.KindConnect},
		"slot of the primary": {func(f *fakeServer) {
			f.slot, f.standby = `{"plugin":"pgoutput","slot_type":"logical","database":"shop","confirmed_flush_lsn":"0/1000","synced":true}`, true
		}, "", token(Position{At: 0x1000}, 0), []string{"has the replication slot deltaforge_shop from its primary: waiting until it is promoted"}, false, fault.KindConnect},
		"slot of a former primary": {func(f *fakeServer) {
			f.slot = `{"plugin":"pgoutput","slot_type":"logical","database":"shop","confirmed_flush_lsn":"0/1000","synced":true}`
		}, "", token(Position{At: 0x1000}, 0), nil, false, ""},
		"standby without a publication": {
			func(f *fakeServer) { delete(f.pubs, "deltaforge_shop"); f.standby = true }, "",
			checkpoint.Token{},
			[]string{`takes no statements that write: run on its primary: CREATE PUBLICATION "deltaforge_shop" FOR TABLE ONLY`},
			false, fault.KindOther,
		},
		"slot unreadable": {func(f *fakeServer) { f.slot = `{` }, "", checkpoint.Token{}, []string{"looking up the replication slot"}, false, fault.KindOther},
		"slot without place": {func(f *fakeServer) {
			f.slot = `{"plugin":"pgoutput","slot_type":"logical","database":"shop","confirmed_flush_lsn":"x"}`
		}, "", checkpoint.Token{}, []string{`LSN "x"`}, false, fault.KindOther},
		"old version":         {func(f *fakeServer) { f.version = 130000 }, "", checkpoint.Token{}, []string{"PostgreSQL 13, want 14 or newer"}, false, fault.KindProtocol},
		"no right to ask":     {func(f *fakeServer) { f.refuse["server_version_num"] = "42501" }, "", checkpoint.Token{}, []string{"reading the server's settings"}, false, fault.KindPermission},
		"publication refused": {func(f *fakeServer) { delete(f.pubs, "deltaforge_shop"); f.refuse["CREATE PUBLICATION"] = "42501" }, "", checkpoint.Token{}, []string{`CREATE PUBLICATION "deltaforge_shop"`}, false, fault.KindPermission},
		"publication missing": {func(f *fakeServer) { delete(f.pubs, "deltaforge_shop") }, "create_publication: false", checkpoint.Token{}, []string{"there is no publication deltaforge_shop and create_publication is off: CREATE PUBLICATION"}, false, fault.KindOther},
		"identity refused":    {func(f *fakeServer) { f.refuse["IDENTIFY_SYSTEM"] = "57P01" }, "", checkpoint.Token{}, []string{"identifying the server"}, false, fault.KindConnect},
		"slot not made":       {func(f *fakeServer) { f.slot, f.refuse["CREATE_REPLICATION_SLOT"] = "", "53400" }, "", checkpoint.Token{}, []string{"creating the replication slot deltaforge_shop"}, false, fault.KindConnect},
		"stream refused":      {func(f *fakeServer) { f.refuse["START_REPLICATION"] = "55000" }, "", checkpoint.Token{}, []string{"does not read on with the slot deltaforge_shop at 0/1000"}, true, ""},
		"log removed":         {func(f *fakeServer) { f.refuse["START_REPLICATION"] = "58P01" }, "", checkpoint.Token{}, []string{"no longer has the log at 0/1000"}, true, ""},
		"stream taken":        {func(f *fakeServer) { f.refuse["START_REPLICATION"] = "55006" }, "", checkpoint.Token{}, []string{"replication stream at 0/1000"}, false, fault.KindConnect},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			r, _ := f.source(c.yaml, false)
			if c.edit != nil {
				c.edit(f)
			}
			if c.want == nil {
				f.on().run(r, c.from).close()
				return
			}
			err := f.on().begin(r, c.from).fails()
			for _, want := range c.want {
				assert.ErrorContains(t, err, want)
			}
			assert.Equal(t, c.lost, errors.Is(err, fault.ErrPositionLost), err)
			if !c.lost {
				assert.Equal(t, c.kind, fault.KindOf(err), err)
			}
		})
	}
}

// TestOfflineStreamEnds has what a server may send in place of changes, or beside them.
func TestOfflineStreamEnds(t *testing.T) {
	notice := func(routine string) *pgproto3.NoticeResponse {
		return &pgproto3.NoticeResponse{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "55000", Message: "skipped loading it", Routine: routine}
	}
	for name, c := range map[string]struct {
		send []pgproto3.BackendMessage
		want string
		kind fault.Kind // position lost where it is that
	}{
		"publication skipped":   {[]pgproto3.BackendMessage{notice("LoadPublications")}, "the publication deltaforge_shop did not exist when the changes after 0/0 were made", fault.KindPositionLost},
		"publication missing":   {[]pgproto3.BackendMessage{alive(0x1234), &pgproto3.ErrorResponse{Code: "42704", Message: "no publication"}}, "did not exist when the changes after 0/1234 were made", fault.KindPositionLost},
		"slot invalidated":      {[]pgproto3.BackendMessage{&pgproto3.ErrorResponse{Code: "55000"}}, "does not read on with the slot", fault.KindPositionLost},
		"log removed":           {[]pgproto3.BackendMessage{&pgproto3.ErrorResponse{Code: "58P01"}}, "no longer has the log", fault.KindPositionLost},
		"shutdown":              {[]pgproto3.BackendMessage{&pgproto3.ErrorResponse{Code: "57P01", Message: "bye"}}, "replication stream at", fault.KindConnect},
		"end":                   {[]pgproto3.BackendMessage{&pgproto3.CopyDone{}}, "the server ended the replication stream", fault.KindConnect},
		"unknown message":       {[]pgproto3.BackendMessage{&pgproto3.BindComplete{}}, `unknown type '2'`, fault.KindProtocol},
		"empty":                 {[]pgproto3.BackendMessage{copyData()}, "empty CopyData", fault.KindProtocol},
		"unknown data":          {[]pgproto3.BackendMessage{copyData("x")}, `replication message of unknown type 'x'`, fault.KindProtocol},
		"short data":            {[]pgproto3.BackendMessage{copyData("w123")}, "XLogData", fault.KindProtocol},
		"short keepalive":       {[]pgproto3.BackendMessage{copyData("k123")}, "keepalive message is cut short", fault.KindProtocol},
		"unknown change":        {[]pgproto3.BackendMessage{walAt(1, "x")}, `pgoutput message of unknown type 'x'`, fault.KindProtocol},
		"short begin":           {[]pgproto3.BackendMessage{walAt(1, "B")}, "Begin message is cut short", fault.KindProtocol},
		"begin twice":           {[]pgproto3.BackendMessage{beginAt(0x1100, 1), beginAt(0x1100, 1)}, "begins inside another one", fault.KindProtocol},
		"commit alone":          {[]pgproto3.BackendMessage{commitAt(0x1100)}, "a commit without a transaction", fault.KindProtocol},
		"short commit":          {[]pgproto3.BackendMessage{beginAt(0x1100, 1), walAt(1, "C")}, "Commit message is cut short", fault.KindProtocol},
		"short relation":        {[]pgproto3.BackendMessage{walAt(1, "R1")}, "Relation message is cut short", fault.KindProtocol},
		"row alone":             {[]pgproto3.BackendMessage{itemRelation(), insertItem(1, "1")}, "a row outside of a transaction", fault.KindProtocol},
		"row of no table":       {[]pgproto3.BackendMessage{beginAt(0x1100, 1), insertItem(1, "1")}, "relation 20001 was not announced", fault.KindProtocol},
		"short row":             {[]pgproto3.BackendMessage{beginAt(0x1100, 1), walAt(1, "I1")}, "cut short", fault.KindProtocol},
		"short truncate":        {[]pgproto3.BackendMessage{beginAt(0x1100, 1), walAt(1, "T1")}, "cut short", fault.KindProtocol},
		"message in none":       {[]pgproto3.BackendMessage{walAt(1, byte(pgoutput.MsgMessage), byte(1), lsn.LSN(1), "p\x00", uint32(0))}, "a transactional message outside of a transaction", fault.KindProtocol},
		"message in one":        {[]pgproto3.BackendMessage{beginAt(0x1100, 1), walAt(1, byte(pgoutput.MsgMessage), byte(0), lsn.LSN(1), "p\x00", uint32(0))}, "a non-transactional message inside a transaction", fault.KindProtocol},
		"short logical message": {[]pgproto3.BackendMessage{walAt(1, "M1")}, "Message message is cut short", fault.KindProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			r, log := f.source("", false)
			s := f.on().run(r, token(Position{At: 0x1000}, 0))
			go func() {
				for _, m := range append([]pgproto3.BackendMessage{notice("StandbySlotsHaveCaughtup")}, c.send...) {
					select {
					case f.stream <- m:
					case <-s.done:
					}
				}
			}()
			err := s.fails()
			assert.ErrorContains(t, err, c.want)
			assert.Equal(t, c.kind, fault.KindOf(err))
			assert.Equal(t, c.kind == fault.KindPositionLost, errors.Is(err, fault.ErrPositionLost))
			assert.Contains(t, log.all(), "warn the server says: skipped loading it")
		})
	}
}

// TestOfflineMessagesAndTruncate delivers what is no row.
func TestOfflineMessagesAndTruncate(t *testing.T) {
	f := newFake(t)
	r, _ := f.source("schema_changes: true", false)
	s := f.on().run(r, token(Position{At: 0x1000}, 0))
	in := walAt(0x10f1, byte(pgoutput.MsgMessage), byte(1), lsn.LSN(0x10f1), "in\x00", uint32(1), "a")
	out := walAt(0x1180, byte(pgoutput.MsgMessage), byte(0), lsn.LSN(0x1180), "out\x00", uint32(1), "b")
	truncate := walAt(0x10f2, byte(pgoutput.MsgTruncate), uint32(1), byte(0), uint32(20001))
	f.send(walAt(0x10f0, "O"), beginAt(0x1100, 7), itemRelation(), insertItem(0x10f0, "1"), in, truncate, commitAt(0x1100))
	require.Equal(t, append(item("1"), `m message {"before":null,"after":{"prefix":"in","content":{"_base64":"YQ=="}}}`, `t item {"before":null,"after":null}`),
		shorts(t, s.events(3)))
	f.send(out)
	require.Equal(t, []string{`m message {"before":null,"after":{"prefix":"out","content":{"_base64":"Yg=="}}}`}, shorts(t, s.events(1)))
	require.Equal(t, Position{At: 0x1180, Last: 0x1108, XID: 7}, s.last.Commit)
	record, mark, err := r.Record()
	require.NoError(t, err)
	require.NotEmpty(t, record)
	r.Saved(mark)
	none, _, err := r.Record()
	require.NoError(t, err)
	require.Nil(t, none)
	require.NoError(t, r.Restore(record))
	end, ok := r.LagBytes()
	require.True(t, ok)
	require.Positive(t, end)
}

// TestOfflineNewTable is added while the source streams, unless the server would refuse writes to it.
func TestOfflineNewTable(t *testing.T) {
	f := newFake(t)
	r, log := f.source("tables: {include: [public.item, public.new%]}", false)
	s := f.on().run(r, token(Position{At: 0x1000}, 0))
	go func() {
		for {
			select {
			case <-s.out:
			case <-s.done:
				return
			}
		}
	}()
	require.Contains(t, log.all(), "warn tables.include: public.new%: no table matches")
	says := func(text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(log.all(), text) }, waitFor, tick, "%s\n%s", text, log.all())
	}
	f.mu.Lock()
	f.tables = append(f.tables, fakeTable{oid: 20002, schema: "public", name: "new1"}, fakeTable{oid: 20003, schema: "public", name: "new2", keyless: true})
	f.changes++
	f.mu.Unlock()
	says("warn the table public.new1 is new under its name: its changes are captured from 0/2000 on")
	says("warn changes of public.new2 are not captured: the server would refuse updates and deletes")
	f.mu.Lock()
	require.Contains(t, f.done, `ALTER PUBLICATION "deltaforge_shop" ADD TABLE ONLY "public"."new1"`)
	f.refuse["hashtextextended"] = "42501"
	f.mu.Unlock()
	says("warn looking for new tables: looking for changes of the tables: ")
	f.mu.Lock()
	delete(f.refuse, "hashtextextended")
	f.pubs["deltaforge_shop"].oid++
	f.changes++
	f.mu.Unlock()
	<-s.done
	require.ErrorIs(t, s.err, errPublicationChanged)
}

// TestOfflineConnectionTest names every problem.
func TestOfflineConnectionTest(t *testing.T) {
	f := newFake(t)
	r, _ := f.source("tables: {include: [public.item, public.gone]}", false)
	require.EqualError(t, r.Test(t.Context()), "tables.include: there is no table public.gone: correct its name, or make it")
	f.version = 130000
	err := r.Test(t.Context())
	require.ErrorContains(t, err, "want 14 or newer")
	require.ErrorContains(t, err, "public.gone")
	f.version = 160000
	r, _ = f.source("", false)
	require.NoError(t, r.Test(t.Context()))
	left, err := r.Leftovers(t.Context(), true)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.NoError(t, r.ProbeLag(t.Context()))
	memory, err := r.Remember(t.Context())
	require.NoError(t, err)
	require.Equal(t, Position{At: 0x1000}, memory.Resume)
}
