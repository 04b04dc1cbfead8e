package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/publication"
	"github.com/deltaforge/deltaforge/internal/fault"
)

// wanted is what the configuration wants of the publication.
func (c *config) wanted() *publication.Config {
	return &publication.Config{Name: c.publication, Source: c.name, Create: c.createPublication, Filter: &c.filter}
}

// lockTimeout bounds the wait for a table that is to be published: an ALTER TABLE may hold it.
const lockTimeout = "5s"

// publish does what was planned, says what it was, and from which position on tables that were added are captured. At a start it comes
// before the slot: the server cannot decode changes that are older than the publication.
func (r *replication) publish(ctx context.Context, conn *pgx.Conn, plan *publication.Plan, st *publication.State) error {
	if len(plan.Statements) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockTimeout+"'"); err != nil {
			return err
		}
		for _, sql := range plan.Statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", firstWords(sql), err)
			}
		}
		return nil
	})
	if err != nil {
		return classify(err)
	}
	r.logger.Infof("%s", plan.Done)
	if len(plan.Added) == 0 || r.cfg.loads {
		return nil // what appears is told of, and loaded
	}
	var from string
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&from); err != nil {
		return classify(fmt.Errorf("looking where the log is: %w", err))
	}
	for _, t := range plan.Added {
		what := "changes"
		if st.Inserts != nil && (st.Inserts.AllTables || st.Inserts.Schemas[t.Schema]) {
			what = "updates and deletes"
		}
		r.logger.Warnf("the table %s is new under its name: its %s are captured from %s on; those before are not in the stream, and rows that "+
			"it had already are not read: load it at the consumers", t, what, from)
	}
	return nil
}

// firstWords keeps a log line short where there are thousands of tables.
func firstWords(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + " …"
	}
	return s
}

func (r *replication) warnOnce(text string) {
	r.warnedMu.Lock()
	known := r.warned[text]
	r.warned[text] = true
	r.warnedMu.Unlock()
	if !known {
		r.logger.Warnf("%s", text)
	}
}

// watcher looks for tables that are made, renamed, attached or detached while the source streams: the publication follows tables, the
// configuration names.
type watcher struct {
	r     *replication
	role  publication.Role
	state *publication.State // what was seen last
	sum   string             // of it; empty: look again
	conn  *pgx.Conn
}

// watchInterval is the time between two looks. A look at so many tables that it takes long comes less often: a fiftieth of the time
// is spent on it.
const (
	watchInterval = time.Second
	watchShare    = 50
)

// run looks until ctx ends, or until the publication is not the one that the stream began with.
func (w *watcher) run(ctx context.Context) error {
	defer func() {
		if w.conn != nil {
			catalog.Close(ctx, w.conn)
		}
	}()
	pause := watchInterval
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		began := time.Now()
		err := w.look(ctx)
		pause = max(watchInterval, watchShare*time.Since(began))
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of the session
		case errors.Is(err, errPublicationChanged):
			return err
		case err != nil:
			w.sum = ""
			w.r.warnOnce(fmt.Sprintf("looking for new tables: %v", err))
		}
	}
}

// errPublicationChanged ends a session whose publication was dropped. The next one asks the server whether anything is missing.
var errPublicationChanged = errors.New("the publication was dropped while the source was streaming")

func (w *watcher) look(ctx context.Context) (err error) {
	if w.conn == nil || w.conn.IsClosed() {
		if w.conn, err = w.r.cfg.connect(ctx); err != nil {
			return classifyConnect(err)
		}
	}
	sum, err := publication.Fingerprint(ctx, w.conn, w.role.Version)
	if err != nil || sum == w.sum {
		return err
	}
	c := w.r.cfg.wanted()
	now, err := c.Look(ctx, w.conn, w.role.Version)
	if err != nil {
		return err
	}
	if now.Main == nil || now.Main.OID != w.state.Main.OID {
		return fault.WithKind(fault.KindSchema, fmt.Errorf("%w: %s", errPublicationChanged, c.Name))
	}
	plan := c.Plan(now, w.role)
	for _, p := range plan.Problems {
		w.r.warnOnce(p.Text)
	}
	for _, text := range append(plan.Warnings, publication.Meddled(w.state, now, c)...) {
		w.r.warnOnce(text)
	}
	if len(plan.Statements) > 0 {
		if err := w.r.publish(ctx, w.conn, plan, now); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(plan.Statements, "; "), err)
		}
		if now, err = c.Look(ctx, w.conn, w.role.Version); err != nil {
			return err
		}
		sum = "" // of before; the next look finds the same
	}
	if err := w.r.appeared(ctx, w.conn, w.state, now); err != nil {
		return err // what has appeared is found again by the next look
	}
	w.state, w.sum, w.r.seen = now, sum, now
	return nil
}
