package chunk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/wire"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// reader is a snapshot.Reader.
type reader struct {
	s      *Source
	conn   *pgx.Conn
	stream *wire.Stream
	pages  pages
	// server tells servers apart, and standby says that this one replays the log of another.
	server  string
	standby bool

	table *table // of the transaction that is open; nil: none
	held  bool   // a cursor is open
	used  bool   // a transaction was begun, and is not known to have ended
	aside bool   // no stream waits for what is read
	ahead bool   // the stream has to come to a place of the log that was not written out when the transaction began
}

// The bounds of what a chunk may ask of the server.
const (
	// lockTimeout bounds the wait for a table that is being altered: whoever comes after a waiting ALTER TABLE would wait for both.
	lockTimeout = "2s"
	// statementTimeout is far above what a chunk takes, and idleTimeout above the time between two parts of a table that is read in one
	// transaction.
	statementTimeout = "30min"
	idleTimeout      = "10min"
	closeTimeout     = 2 * time.Second
)

// settings make the plans those that chunks are cut for, in the order of an index, and turn a policy that would hide rows into an error.
const settings = `SELECT set_config('row_security', 'off', false), set_config('jit', 'off', false), set_config('enable_sort', 'off', false),
	set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
	set_config('max_parallel_workers_per_gather', '0', false), set_config('statement_timeout', '` + statementTimeout + `', false),
	set_config('idle_in_transaction_session_timeout', '` + idleTimeout + `', false), set_config('default_transaction_read_only', 'on', false)`

// prepare makes the session one for chunks, and looks where it is.
func (r *reader) prepare(ctx context.Context) error {
	if err := r.conn.PgConn().Exec(ctx, settings).Close(); err != nil {
		return classify(err)
	}
	err := r.conn.QueryRow(ctx, `SELECT (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_block_size'),
		(SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'), pg_is_in_recovery(),
		concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())`).
		Scan(&r.pages.page, &r.pages.segment, &r.standby, &r.server)
	if err != nil {
		return classify(err)
	}
	if r.s.cfg.Replica != nil {
		return r.checkReplica(ctx)
	}
	return nil
}

// Close implements snapshot.Reader.
func (r *reader) Close() {
	if r.used { // the server would go on with a query
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = r.conn.PgConn().CancelRequest(ctx) // it ends by itself, too
	}
	closeConn(r.conn)
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nothing is lost with it
}

// Begin implements snapshot.Reader.
func (r *reader) Begin(ctx context.Context, name string, after checkpoint.Position) (snapshot.View, error) {
	v, err := r.begin(ctx, name, after)
	if err != nil {
		return nil, r.explain(name, "", err)
	}
	if !r.aside {
		r.s.cfg.Want(v.high)
	}
	return v, nil
}

func (r *reader) begin(ctx context.Context, name string, after checkpoint.Position) (*view, error) {
	if r.held { // whoever read it does not want the rest
		if err := r.conn.PgConn().Exec(ctx, "ROLLBACK").Close(); err != nil {
			return nil, err
		}
		r.held, r.used = false, false
	}
	if r.used {
		return nil, errors.New("the connection is in the middle of something: it has failed, or a chunk was not read to its end")
	}
	passed, err := r.s.cfg.At(after)
	if err != nil {
		return nil, err
	}
	v := &view{s: r.s}
	if r.standby {
		low, err := r.waitReplay(ctx, name, passed)
		if err != nil {
			return nil, err
		}
		v.seen = &replayed{low}
	} else if err := r.s.complete(ctx, r.conn, name, passed); err != nil {
		return nil, err
	}
	t, st, err := r.enter(ctx, name)
	if err != nil {
		return nil, err
	}
	if st.standby != r.standby {
		return nil, errTurned
	}
	r.table, r.held = t, false
	if r.standby {
		v.high, err = r.highOfReplica(ctx)
		return v, err
	}
	v.high = r.pages.end(st.insert)
	r.ahead = !r.aside && st.written < v.high
	v.seen, err = parseMVCC(st.snapshot)
	return v, err
}

// enter opens the transaction. The table is locked before anything is read: to a snapshot that is older than the end of a TRUNCATE, or
// of an ALTER TABLE that writes the table anew, the table is empty.
func (r *reader) enter(ctx context.Context, name string) (*table, *state, error) {
	r.used = true
	known, err := r.s.lookup(ctx, r.conn, name)
	if err != nil {
		return nil, nil, err
	}
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '" + lockTimeout + "'; LOCK TABLE " +
		known.from() + " IN ACCESS SHARE MODE"
	if err := r.conn.PgConn().Exec(ctx, begin).Close(); err != nil {
		r.s.forget(name)
		return nil, nil, err
	}
	st, err := queryState(ctx, r.conn, known.schema, known.name)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && st.partitioned != known.partitioned {
		r.s.forget(name)
		return nil, nil, fmt.Errorf("%w, or it is another one now", snapshot.ErrGone)
	}
	if err != nil {
		return nil, nil, err
	}
	if known.rel == nil || known.token != st.token {
		if known, err = r.s.see(ctx, r.conn, known, st); err != nil {
			return nil, nil, err
		}
	}
	return known, st, nil
}

// state is what the first statement of a transaction finds.
type state struct {
	snapshot    string
	insert      lsn.LSN
	written     lsn.LSN
	standby     bool
	oid         uint32
	partitioned bool
	token       string // another one once anything has changed that a table's shape is made of
}

// queryState takes the snapshot. The end of the log is asked after that: it is after the commit records of all that the snapshot sees.
func queryState(ctx context.Context, conn *pgx.Conn, schema, name string) (*state, error) {
	var st state
	err := conn.QueryRow(ctx, `SELECT pg_current_snapshot()::text, pg_is_in_recovery(),
		CASE WHEN pg_is_in_recovery() THEN 0 ELSE (pg_current_wal_insert_lsn() - '0/0')::bigint END,
		CASE WHEN pg_is_in_recovery() THEN 0 ELSE (pg_current_wal_flush_lsn() - '0/0')::bigint END, c.oid, c.relkind = 'p',
		concat_ws(' ', c.oid, c.xmin,
			(SELECT sum(hashtextextended(concat_ws(' ', attnum, xmin), 0)) FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnum > 0),
			(SELECT sum(hashtextextended(concat_ws(' ', indexrelid, xmin), 0)) FROM pg_catalog.pg_index WHERE indrelid = c.oid),
			(SELECT sum(hashtextextended(concat_ws(' ', oid, xmin), 0)) FROM pg_catalog.pg_publication),
			(SELECT sum(hashtextextended(concat_ws(' ', oid, xmin), 0)) FROM pg_catalog.pg_publication_rel WHERE prrelid = c.oid),
			CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND atttypid >= 16384) THEN concat_ws(' ',
				(SELECT sum(hashtextextended(concat_ws(' ', oid, xmin), 0)) FROM pg_catalog.pg_type
					WHERE oid >= 16384 AND typtype <> 'c' AND typcategory <> 'A'),
				(SELECT sum(hashtextextended(concat_ws(' ', attrelid, attnum, a.xmin, t.xmin), 0)) FROM pg_catalog.pg_class t
					LEFT JOIN pg_catalog.pg_attribute a ON attrelid = t.oid AND attnum > 0 WHERE t.relkind = 'c')) END)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'`, schema, name).
		Scan(&st.snapshot, &st.standby, &st.insert, &st.written, &st.oid, &st.partitioned, &st.token)
	return &st, err
}

// Read implements snapshot.Reader.
func (r *reader) Read(ctx context.Context, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	t := r.table
	if t == nil || t.fullName() != c.Table {
		return snapshot.End{}, fmt.Errorf("%s: no transaction was begun for the table", c.Table)
	}
	r.table = nil
	end, err := r.read(ctx, t, c, add)
	if err == nil && !end.Held {
		err = r.shapeHeld(ctx, t)
	}
	if err != nil {
		return snapshot.End{}, r.explain(c.Table, c.Where, err)
	}
	if end.Held {
		r.table = t
	}
	r.used = end.Held
	if r.ahead && !end.Held {
		r.writeOut(ctx)
	}
	return end, nil
}

// writeOut has the server write out its log soon: what open transactions have added to it, or what reading has, stays in memory until
// somebody commits, for up to fifteen seconds. A transaction that only takes a number does that.
func (r *reader) writeOut(ctx context.Context) {
	r.ahead = false
	if r.conn.PgConn().Exec(ctx, "BEGIN READ WRITE; SELECT pg_current_xact_id(); COMMIT").Close() != nil {
		_ = r.conn.PgConn().Exec(ctx, "ROLLBACK").Close() // the log is written out later; a broken connection is noticed by the next chunk
	}
}

func (r *reader) read(ctx context.Context, t *table, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	switch {
	case len(c.Keys) > 0:
		return r.readKeys(ctx, t, c, add)
	case len(t.key) > 0:
		return r.readRange(ctx, t, c, add)
	case t.followed:
		return r.readPages(ctx, t, c, add)
	default:
		return r.readWhole(ctx, t, c, add)
	}
}

// shapeHeld makes sure that the rows that were read have the shape that they were decoded with.
func (r *reader) shapeHeld(ctx context.Context, t *table) error {
	ok, err := r.s.still(ctx, r.conn, t.rel)
	if err == nil && !ok {
		r.s.forget(t.fullName())
		err = fault.WithKind(fault.KindSchema, errors.New("a composite type of the table was altered while it was read: it is read again"))
	}
	return err
}

// selectFrom is the statement without its conditions.
func (t *table) selectFrom() string { return "SELECT " + t.columns + " FROM " + t.from() }

// where joins conditions, with the publication's own. The one of the configuration stands on lines of its own, so that a comment in it
// does not end the statement.
func (t *table) where(c snapshot.Chunk, conditions ...string) string {
	if t.filter != "" {
		conditions = append(conditions, "("+t.filter+")")
	}
	if c.Where != "" {
		conditions = append(conditions, "(\n"+c.Where+"\n)")
	}
	if len(conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conditions, " AND ")
}

// readRange reads a chunk in the order of the key.
func (r *reader) readRange(ctx context.Context, t *table, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	var p params
	var conditions []string
	for _, b := range []struct {
		bound snapshot.Bound
		side  side
	}{{c.From, after}, {c.To, upTo}} {
		if b.bound == nil {
			continue
		}
		values, err := parseBound(t.key, b.bound)
		if err != nil {
			return snapshot.End{}, err
		}
		conditions = append(conditions, compare(t.key, b.side, values, &p))
	}
	sql := t.selectFrom() + t.where(c, conditions...) + " ORDER BY " + orderBy(t.key)
	res := t.result(c, add)
	if c.Limit > 0 {
		sql += fmt.Sprintf(" LIMIT %d", c.Limit+1) // one more, which tells whether the range ends here
		res.limit = c.Limit
	}
	if err := r.query(ctx, sql, p, res); err != nil {
		return snapshot.End{}, err
	}
	if !res.more {
		return snapshot.End{}, nil
	}
	values, err := t.keyOf(res.last)
	if err != nil {
		return snapshot.End{}, err
	}
	return snapshot.End{Next: appendBound(t.key, values)}, nil
}

// readPages reads the rows of a table without a key by the pages that they are in. A row that an UPDATE moves meanwhile is in the stream.
func (r *reader) readPages(ctx context.Context, t *table, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	e, err := queryExtent(ctx, r.conn, t)
	if err != nil {
		return snapshot.End{}, err
	}
	from, to := place{e.files, 0}, int64(0)
	if c.From != nil {
		p, err := parsePlace(c.From)
		if err != nil {
			return snapshot.End{}, err
		}
		if p.Files == e.files { // else the table was written anew, and its rows are elsewhere
			from = p
		}
	}
	if c.To != nil {
		p, err := parsePlace(c.To)
		if err != nil {
			return snapshot.End{}, err
		}
		if p.Files == e.files {
			to = p.Page
		}
	}
	end := int64(maxPage)
	if c.Limit > 0 {
		end = from.Page + max(1, int64(float64(c.Limit)/e.density()))
	}
	if to > 0 {
		end = min(end, to)
	}
	conditions := []string{fmt.Sprintf("ctid >= '(%d,0)'", from.Page)}
	if end < maxPage {
		conditions = append(conditions, fmt.Sprintf("ctid < '(%d,0)'", end))
	}
	if err := r.query(ctx, t.selectFrom()+t.where(c, conditions...), nil, t.result(c, add)); err != nil {
		return snapshot.End{}, err
	}
	if end < e.pages && (to == 0 || end < to) {
		return snapshot.End{Next: place{e.files, end}.bound()}, nil
	}
	return snapshot.End{}, nil
}

// cursor is the Next of a table that is read in one transaction.
var cursor = snapshot.Bound(`"open"`)

// readWhole reads the next part of a table without a key in one transaction. Updates of its rows are not in the stream, so one that is
// moved meanwhile could be missed by two.
func (r *reader) readWhole(ctx context.Context, t *table, c snapshot.Chunk, add snapshot.Add) (snapshot.End, error) {
	sql := fmt.Sprintf("FETCH FORWARD %d FROM deltaforge", c.Limit)
	if c.Limit <= 0 {
		sql = "FETCH ALL FROM deltaforge"
	}
	if !r.held {
		sql = "DECLARE deltaforge NO SCROLL CURSOR FOR " + t.selectFrom() + t.where(c) + "; " + sql
	}
	res := t.result(c, add)
	if err := r.fetch(ctx, sql, res); err != nil {
		return snapshot.End{}, err
	}
	if r.held = c.Limit > 0 && res.rows >= c.Limit; r.held {
		return snapshot.End{Next: cursor, Held: true}, nil
	}
	return snapshot.End{}, r.conn.PgConn().Exec(ctx, "COMMIT").Close()
}
