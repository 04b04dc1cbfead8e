package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/envelope/debezium"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// A database in memory, whose log can be ahead of what a query sees, and whose events can lack values.

// simRow is a row: a version that only grows, and a large value that events leave out where it has not changed.
type simRow struct{ version, large int }

// simChange is a change of the log.
type simChange struct {
	op      change.Op
	key     int
	was     int // the key before an update that changed it; 0: the same
	row     simRow
	lacking bool // the event has no large value
}

// simTx is a transaction of the log.
type simTx struct {
	tx      change.Tx
	changes []simChange
	seen    bool // queries see it; guarded by simDB.mu
}

type simDB struct {
	t testing.TB

	mu      sync.Mutex
	r       *rand.Rand
	table   *change.Table
	log     []*simTx
	version int
	rows    map[int]simRow // as the log has them
	base    map[int]simRow // before the log
	grown   chan struct{}
	reads   map[string]int // rows that were read, by the part's lower bound
	// careless makes views say that they see whatever is in the log.
	careless bool
	faults   int // one in so many reads fails
	// maxEvents is the size of batches, which then end anywhere; 0: they end with transactions.
	maxEvents int
	purged    int  // transactions that the log does not have any more
	late      bool // it was purged after the load
	slow      bool // each read takes a while
}

func newSimDB(t testing.TB, r *rand.Rand, rows int) *simDB {
	d := &simDB{
		t: t, r: r, rows: map[int]simRow{}, base: map[int]simRow{}, grown: make(chan struct{}), reads: map[string]int{},
		table: &change.Table{
			Source: fakeSource, Database: "db", Name: "t", Key: []int{0},
			Columns: []change.Column{{Name: "id"}, {Name: "version"}, {Name: "large"}},
		},
	}
	for k := range rows {
		d.version++
		d.base[k+1] = simRow{d.version, d.version}
	}
	maps.Copy(d.rows, d.base)
	return d
}

// while returns a random time of less than so many milliseconds.
func (d *simDB) while(ms int) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.r.IntN(ms)) * time.Millisecond
}

// write commits one random transaction. It is in the log at once, and queries see it some time later.
func (d *simDB) write() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes()
}

func (d *simDB) writes() {
	tx := &simTx{tx: change.Tx{ID: "x", Position: fmt.Sprintf("sim%d", len(d.log)+1), CommitTime: time.Now(), XID: uint32(len(d.log) + 1)}}
	for range 1 + d.r.IntN(4) {
		tx.changes = append(tx.changes, d.change())
	}
	d.log = append(d.log, tx)
	close(d.grown)
	d.grown = make(chan struct{})
	delay := time.Duration(0)
	if d.r.IntN(3) == 0 {
		delay = time.Duration(d.r.IntN(200)) * time.Millisecond
	}
	if delay == 0 {
		tx.seen = true
		return
	}
	time.AfterFunc(delay, func() { d.mu.Lock(); tx.seen = true; d.mu.Unlock() })
}

func (d *simDB) change() simChange {
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(d.rows)), untouched)
	d.version++
	if len(keys) == 0 || d.r.IntN(6) == 0 {
		k := d.hot()
		op := change.Create
		if _, there := d.rows[k]; there {
			op = change.Update
		}
		d.rows[k] = simRow{d.version, d.version}
		return simChange{op: op, key: k, row: d.rows[k]}
	}
	k := keys[d.r.IntN(len(keys))]
	switch d.r.IntN(8) {
	case 0:
		delete(d.rows, k)
		return simChange{op: change.Delete, key: k, row: simRow{version: d.version}}
	case 1:
		to := d.hot()
		if _, there := d.rows[to]; there {
			break
		}
		d.rows[to] = simRow{d.version, d.rows[k].large}
		delete(d.rows, k)
		return simChange{op: change.Update, key: to, was: k, row: d.rows[to], lacking: true}
	case 2:
		d.rows[k] = simRow{d.version, d.version}
		return simChange{op: change.Update, key: k, row: d.rows[k]}
	}
	d.rows[k] = simRow{d.version, d.rows[k].large}
	return simChange{op: change.Update, key: k, row: d.rows[k], lacking: true}
}

// untouched reports whether nobody changes the row with a key: it comes by the snapshot, or not at all.
func untouched(key int) bool { return key%3 == 0 }

// hot returns a key that writers use.
func (d *simDB) hot() int {
	for {
		if k := 1 + d.r.IntN(400); !untouched(k) {
			return k
		}
	}
}

// event returns the event of a change.
func (d *simDB) event(tx *simTx, n int, now time.Time) *change.Event {
	c := tx.changes[n]
	ev := &change.Event{Op: c.op, Table: d.table, Index: uint64(n + 1), Origin: &change.Origin{Tx: &tx.tx, ReadAt: now}}
	row := []change.Value{change.IntValue(int64(c.key)), change.IntValue(int64(c.row.version)), change.IntValue(int64(c.row.large))}
	if c.lacking {
		row[2] = change.UnavailableValue()
	}
	if c.op == change.Delete {
		ev.Images = change.ImagesOf([]change.Value{row[0], {}, {}}, nil)
		return ev
	}
	var before []change.Value
	if c.was != 0 {
		before = []change.Value{change.IntValue(int64(c.was)), {}, {}}
	}
	ev.Images = change.ImagesOf(before, row)
	return ev
}

// simRows are the rows of a segment.
type simRows struct {
	d        *simDB
	tx       *simTx
	from, to int
	now      time.Time
}

func (s *simRows) Decode(_ context.Context, dst service.MessageBatch) (service.MessageBatch, error) {
	for n := s.from; n < s.to; n++ {
		dst = append(dst, envelope.AppendMessages(nil, s.d.event(s.tx, n, s.now))...)
	}
	return dst, nil
}

// simLog is the log as a Log.
type simLog struct{ d *simDB }

var (
	_ Snapshotter = simLog{}
	_ Renewer     = simLog{}
)

func (l simLog) Renew(context.Context) error { return nil }

func (l simLog) Snapshots() snapshot.Source { return l.d }
func (l simLog) Confirm(checkpoint.Token)   {}

func (l simLog) Run(ctx context.Context, from checkpoint.Token, out chan<- Segment) error {
	at, sent := 0, int(from.Sent)
	first := Segment{Source: "server", ReadAt: time.Now()}
	if from.Commit != nil {
		at = atOf(l.d.t, from).commit
	} else {
		l.d.mu.Lock()
		for at < len(l.d.log) && l.d.log[at].seen { // whatever is not seen yet is read
			at++
		}
		l.d.mu.Unlock()
		first.Commit = commitText(at)
	}
	send := func(s Segment) error {
		select {
		case out <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if l.d.lost(at) { // before it streams, as the inputs do
		return fmt.Errorf("%w: purged", fault.ErrPositionLost)
	}
	if err := send(first); err != nil {
		return err
	}
	for {
		l.d.mu.Lock()
		var tx *simTx
		grown := l.d.grown
		if at < len(l.d.log) {
			tx = l.d.log[at]
		}
		lost := at < l.d.purged
		fail := l.d.faults > 0 && l.d.r.IntN(10*l.d.faults) == 0
		l.d.mu.Unlock()
		if lost {
			return fmt.Errorf("%w: purged", fault.ErrPositionLost)
		}
		if fail {
			return errFake
		}
		if tx == nil {
			select {
			case <-grown:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		at++
		half := max(sent, len(tx.changes)/2)
		for _, part := range [][2]int{{sent, half}, {half, len(tx.changes)}} {
			seg := Segment{Source: "server", ReadAt: time.Now(), CommitTime: tx.tx.CommitTime}
			if part[0] < part[1] {
				seg.Rows = &simRows{l.d, tx, part[0], part[1], time.Now()}
			}
			if part[1] == len(tx.changes) {
				seg.Commit = commitText(at)
			}
			if seg.Rows != nil || seg.Commit != nil {
				if err := send(seg); err != nil {
					return err
				}
			}
		}
		sent = 0
	}
}

// The database as a snapshot.Source.

func (d *simDB) Tables(ctx context.Context) ([]snapshot.Table, error) {
	if err := sleep(ctx, d.while(60)); err != nil {
		return nil, err
	}
	return []snapshot.Table{{Name: "db.t", Rows: int64(len(d.base)), Key: []string{"id"}}}, nil
}

func (d *simDB) Open(context.Context) (snapshot.Reader, error) { return &simReader{d: d}, nil }
func (d *simDB) Notify(func(snapshot.Appearance))              {}

// simReader reads what queries see.
type simReader struct {
	d    *simDB
	rows map[int]simRow
}

type simView struct {
	seen     map[uint32]bool
	high     int
	careless bool
	t        testing.TB
}

func (v *simView) Sees(tx *change.Tx) bool {
	return v.seen[tx.XID] || v.careless && int(tx.XID) <= v.high
}

func (v *simView) Reached(p checkpoint.Position) bool {
	return atOf(v.t, checkpoint.Token{Commit: p}).commit >= v.high
}

func (r *simReader) Split(_ context.Context, _ string, n int) ([]snapshot.Bound, error) {
	var bounds []snapshot.Bound
	for i := 1; i < n; i++ {
		bounds = append(bounds, snapshot.Bound(itoa(i*400/n)))
	}
	return bounds, nil
}

func (r *simReader) Begin(ctx context.Context, _ string, after checkpoint.Position) (snapshot.View, error) {
	passed := atOf(r.d.t, checkpoint.Token{Commit: after}).commit
	for {
		if v := r.begin(passed); v != nil {
			return v, nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// begin returns nil while something is not seen that was passed.
func (r *simReader) begin(passed int) snapshot.View {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if r.d.faults > 0 && r.d.r.IntN(r.d.faults) == 0 {
		passed = len(r.d.log) + 1 // never
	}
	v := &simView{seen: map[uint32]bool{}, careless: r.d.careless, t: r.d.t}
	r.rows = maps.Clone(r.d.base)
	for i, tx := range r.d.log {
		if !tx.seen {
			if i < passed && !r.d.careless {
				return nil
			}
			continue
		}
		v.seen[tx.tx.XID], v.high = true, i+1
		for _, c := range tx.changes {
			if c.was != 0 {
				delete(r.rows, c.was)
			}
			if c.op == change.Delete {
				delete(r.rows, c.key)
			} else {
				r.rows[c.key] = c.row
			}
		}
	}
	if passed > len(r.d.log) {
		return nil
	}
	if r.d.careless {
		v.high = len(r.d.log)
	}
	return v
}

func (r *simReader) Read(ctx context.Context, c snapshot.Chunk, add snapshot.Add) (end snapshot.End, err error) {
	r.d.mu.Lock()
	wait := time.Duration(r.d.r.IntN(60)) * time.Millisecond
	if r.d.slow {
		wait += 20 * time.Millisecond
	}
	if r.d.faults > 0 && r.d.r.IntN(r.d.faults) == 0 {
		r.d.mu.Unlock()
		return end, errors.New("the connection is gone")
	}
	r.d.mu.Unlock()
	if err := sleep(ctx, wait); err != nil {
		return end, err
	}
	from, to := 0, 1<<30
	for b, n := range map[*int]snapshot.Bound{&from: c.From, &to: c.To} {
		if n != nil {
			if err := json.Unmarshal(n, b); err != nil {
				return end, err
			}
		}
	}
	n, last := 0, 0
	for _, k := range slices.Sorted(maps.Keys(r.rows)) {
		if len(c.Keys) > 0 {
			if !slices.ContainsFunc(c.Keys, func(v []change.Value) bool { return int(v[0].Int()) == k }) {
				continue
			}
		} else if k <= from || k > to {
			continue
		}
		if len(c.Keys) == 0 && n == c.Limit {
			end.Next = snapshot.Bound(itoa(last))
			break
		}
		row := r.rows[k]
		add(r.d.table, []change.Value{change.IntValue(int64(k)), change.IntValue(int64(row.version)), change.IntValue(int64(row.large))}, nil)
		n, last = n+1, k
	}
	r.d.mu.Lock()
	r.d.reads[string(c.From)] += n
	r.d.mu.Unlock()
	return end, nil
}

func (r *simReader) Close() {}

// deletedBefore reports whether a transaction before one has deleted a row that is newer than a version.
func (d *simDB) deletedBefore(xid uint32, key, version int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, tx := range d.log[:max(xid, 1)-1] {
		for _, c := range tx.changes {
			if c.op == change.Delete && c.key == key && c.row.version > version {
				return true
			}
		}
	}
	return false
}

// simConsumer replays what is delivered.
type simConsumer struct {
	d      *simDB // nil: nobody looks for rows that come back
	xid    uint32 // of the newest event of the stream
	large  int    // of the row whose key changes
	rows   map[int]simRow
	newest map[int]int // version of the newest event of the stream, by key
	loaded map[int]int // version of the newest row of the snapshot, by key
	wrong  []string    // snapshot rows that came after a newer event of their key
	reads  int
	last   int
	ids    map[string]string
}

const lacking = -1

func (c *simConsumer) take(t testing.TB, batch service.MessageBatch) {
	for i, m := range batch {
		ev, ok := change.FromMessage(m)
		require.True(t, ok)
		require.False(t, ev.Silent)
		require.False(t, i == 0 && ev.Part > 0, "the messages of one change are in one batch")
		if ev.Tombstone {
			continue
		}
		if ev.Op == change.Delete {
			c.xid = max(c.xid, ev.Tx.XID)
			k := int(ev.Before()[0].Int())
			if ev.Of != nil { // of a row that is to come under another key
				c.large = c.rows[k].large
			}
			delete(c.rows, k)
			continue
		}
		k, row := int(ev.After()[0].Int()), simRow{int(ev.After()[1].Int()), lacking}
		if ev.After()[2].Known() {
			row.large = int(ev.After()[2].Int())
		} else if ev.Part > 0 {
			row.large = c.large
		} else if was, ok := c.rows[k]; ok {
			row.large = was.large
		}
		if ev.Before() != nil {
			was := int(ev.Before()[0].Int())
			if old, ok := c.rows[was]; ok && !ev.After()[2].Known() {
				row.large = old.large
			}
			delete(c.rows, was)
		}
		if ev.Op == change.Read {
			c.reads++
			if c.d != nil && c.d.deletedBefore(c.xid, k, row.version) {
				c.wrong = append(c.wrong, fmt.Sprintf("key %d: version %d after the end of the row", k, row.version))
			}
			if ev.Snapshot == change.SnapshotLast {
				c.last++
			}
			c.loaded[k] = row.version
			if row.version < c.newest[k] {
				c.wrong = append(c.wrong, fmt.Sprintf("key %d: version %d after %d", k, row.version, c.newest[k]))
			}
		} else {
			c.xid = max(c.xid, ev.Tx.XID)
			c.newest[k] = max(c.newest[k], row.version)
			if row.version < c.loaded[k] {
				c.wrong = append(c.wrong, fmt.Sprintf("key %d: version %d after the snapshot's %d", k, row.version, c.loaded[k]))
			}
		}
		c.rows[k] = row
	}
}

// lost reports whether the log does not have the transaction any more that comes after so many.
func (d *simDB) lost(at int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return at < d.purged
}

// purge has the log lose what it has, after some transactions that nobody has read.
func (d *simDB) purge(writes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for range writes {
		d.writes()
	}
	for _, tx := range d.log {
		tx.seen = true // a log is not purged of what is being committed
	}
	d.purged = len(d.log)
}

// simRun loads a table under writes, with ends of the process and of sessions at random, and returns the consumer.
func simRun(t *testing.T, d *simDB, crashes int, lose bool) *simConsumer {
	c := &simConsumer{d: d, rows: map[int]simRow{}, newest: map[int]int{}, loaded: map[int]int{}}
	store := newMemStore()
	cfg := Config{
		MaxInFlight: 1, MaxEvents: 20, RespectTx: true, CheckpointInterval: 20 * time.Millisecond, OnLost: LostSnapshot,
		Snapshot: snapshot.Config{Mode: snapshot.Initial, ChunkRows: 7, Parallel: 3},
	}
	if d.maxEvents > 0 {
		cfg.MaxEvents, cfg.RespectTx = d.maxEvents, false
	}
	stop := make(chan struct{})
	pause := 3 * time.Millisecond
	if d.maxEvents > 0 {
		pause = 15 * time.Millisecond // small batches take their time, and a stream that falls back for ever ends no load
	}
	var writers sync.WaitGroup
	writers.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(pause):
				d.write()
			}
		}
	})
	time.Sleep(50 * time.Millisecond)
	stopped, again := false, !lose // again: the position was lost after the load, and all is loaded anew
	loaded := func(in *Input) bool {
		st := in.loader.Status()
		if len(st.Tables) != 1 || st.Tables[0].State != string(snapshot.Done) {
			again = again || d.late
			return false
		}
		if !d.late && lose {
			d.late = true
			d.purge(20)
		}
		return again
	}
	for run := 0; ; run++ {
		disk := &mortalStore{Store: store}
		in := newTestInput(t, cfg, simLog{d}, disk, nil)
		life := time.Hour
		if run < crashes {
			life = 20*time.Millisecond + d.while(300)
		}
		died := time.Now().Add(life)
		if lose && run%4 == 1 { // and not each time, so that a start that was cut short is followed by one that finds the same log
			d.purge(20)
		}
		ctx, cancel := context.WithDeadline(t.Context(), died)
		idle := 0
		for ctx.Err() == nil && idle < 3 {
			if err := in.Connect(ctx); err != nil {
				continue
			}
			for {
				read, done := context.WithTimeout(ctx, 2*time.Second)
				batch, ack, err := in.ReadBatch(read)
				timeout := read.Err() != nil && ctx.Err() == nil
				done()
				if timeout {
					if loaded(in) {
						if !stopped {
							stopped = true
							close(stop)
							writers.Wait()
						}
						idle++
					}
					if idle == 3 {
						break
					}
					continue
				}
				if err != nil {
					break
				}
				// The writers end some time after the load.
				if !stopped && run >= crashes && loaded(in) {
					stopped = true
					close(stop)
					writers.Wait()
				}
				c.take(t, batch)
				time.Sleep(d.while(10))
				require.NoError(t, ack(ctx, nil))
			}
		}
		cancel()
		if run >= crashes && idle < 3 {
			t.Fatalf("the load does not end: %+v", in.loader.Status())
		}
		if run < crashes {
			disk.dead.Store(true) // nothing is saved any more: the process is gone
			_ = in.Close(context.Background())
			clear(c.newest) // what follows the saved position comes again
			clear(c.loaded)
			c.xid = 0
			continue
		}
		require.NoError(t, in.Close(context.Background()))
		return c
	}
}

// mortalStore keeps nothing once its process is dead.
type mortalStore struct {
	checkpoint.Store
	dead atomic.Bool
}

func (s *mortalStore) Set(ctx context.Context, key string, value []byte) error {
	if s.dead.Load() {
		return errors.New("the process is gone")
	}
	return s.Store.Set(ctx, key, value)
}

// TestLoadUnderWrites: what is delivered equals the table, and no row of a snapshot is older than an event of its key before it; with queries that do not see what
// is in the log yet, events that lack values, reads and sessions that fail, and ends of the process.
func TestLoadUnderWrites(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newSimDB(t, newRand(seed), 200)
				d.faults = 15
				c := simRun(t, d, int(seed%4), false)
				assert.Empty(t, c.wrong, "rows that are older than an event before them")
				assert.Equal(t, d.rows, c.rows)
			})
		})
	}
}

// TestLoadUnderWritesOfASilentFormat: the load takes notice of deletes that a format leaves out, so that no deleted row comes back.
func TestLoadUnderWritesOfASilentFormat(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newSimDB(t, newRand(seed), 200)
				d.faults = 15
				d.table.Source = &change.Source{Connector: "fake", Name: "fake", Format: envelope.Row{Deletes: envelope.DeleteDrop}}
				c := simRun(t, d, int(seed%4), false)
				assert.Empty(t, c.wrong, "rows that are older than an event before them")
				maps.DeleteFunc(c.rows, func(k int, _ simRow) bool { _, there := d.rows[k]; return !there })
				assert.Equal(t, d.rows, c.rows)
			})
		})
	}
}

// TestLoadUnderWritesInParts: in a format that makes several messages of a change the load is complete, too, and no batch ends between them.
func TestLoadUnderWritesInParts(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newSimDB(t, newRand(seed), 200)
				d.faults, d.maxEvents = 15, 11
				d.table.Source = &change.Source{Connector: "fake", Name: "fake", Format: debezium.Default()}
				c := simRun(t, d, int(seed%4), false)
				assert.Empty(t, c.wrong, "rows that are older than an event before them")
				assert.Equal(t, d.rows, c.rows)
			})
		})
	}
}

// TestTheOracleSeesCarelessViews: a view that takes the end of the log for what it sees lets older rows pass.
func TestTheOracleSeesCarelessViews(t *testing.T) {
	wrong := 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			d := newSimDB(t, newRand(seed), 200)
			d.careless = true
			if c := simRun(t, d, 0, false); len(c.wrong) > 0 {
				wrong++
			}
		})
	}
	assert.Positive(t, wrong)
}

// TestLostPositionIsLoadedAgain: the log loses what the source has not read, again and again, and the process ends at any moment. Every row comes with its newest
// state; all that is left over are rows that were deleted, or had their key changed, where nobody could see it.
func TestLostPositionIsLoadedAgain(t *testing.T) {
	for seed := range uint64(1) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newSimDB(t, newRand(seed), 200)
				d.faults = 15
				c := simRun(t, d, int(seed)+1, true)
				assert.Empty(t, c.wrong, "rows that are older than an event before them")
				unknowable := map[int]bool{}
				for _, tx := range d.log[:d.purged] {
					for _, ch := range tx.changes {
						unknowable[ch.was] = true
						if ch.op == change.Delete {
							unknowable[ch.key] = true
						}
					}
				}
				for k := range c.rows {
					if _, there := d.rows[k]; !there && unknowable[k] {
						delete(c.rows, k)
					}
				}
				assert.Equal(t, d.rows, c.rows)
			})
		})
	}
}

// TestHotRows: rows that are changed all the time by events that lack values do not hold up the load, nor its end.
func TestHotRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimDB(t, newRand(3), 100)
		d.slow = true
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					d.touch(n%3 + 1)
				}
			}
		})
		in := newTestInput(t, loadConfig(snapshot.Initial), simLog{d}, newMemStore(), nil)
		c, _ := loadRun(t, in, 20*time.Second)
		assert.Equal(t, "done", in.loader.Status().Tables[0].State, "while the rows are still being changed")
		close(stop)
		writer.Wait()
		assert.Empty(t, c.wrong)
		for k := range d.rows {
			require.Equal(t, d.rows[k].large, c.rows[k].large, "row %d", k)
		}
	})
}

// touch changes a row by an event that has not all of its values.
func (d *simDB) touch(key int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version++
	d.rows[key] = simRow{d.version, d.rows[key].large}
	tx := &simTx{
		tx:      change.Tx{ID: "x", Position: fmt.Sprintf("sim%d", len(d.log)+1), CommitTime: time.Now(), XID: uint32(len(d.log) + 1)},
		changes: []simChange{{op: change.Update, key: key, row: d.rows[key], lacking: true}}, seen: true,
	}
	d.log = append(d.log, tx)
	close(d.grown)
	d.grown = make(chan struct{})
}
