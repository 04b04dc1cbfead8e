package chunk

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/snapshot"
)

const (
	// splitPages is the size of a table, in pages, from which on it is cut into parts.
	splitPages = 512
	// samplePages is how many pages are looked at for each part.
	samplePages = 32
)

// Split implements snapshot.Reader.
func (r *reader) Split(ctx context.Context, name string, n int) ([]snapshot.Bound, error) {
	if n < 2 {
		return nil, nil
	}
	bounds, err := r.split(ctx, name, n)
	if err != nil {
		return nil, r.explain(name, "", err)
	}
	return bounds, nil
}

func (r *reader) split(ctx context.Context, name string, n int) (bounds []snapshot.Bound, err error) {
	t, _, err := r.enter(ctx, name)
	if err != nil {
		return nil, err
	}
	e, err := queryExtent(ctx, r.conn, t)
	if err != nil {
		return nil, err
	}
	switch {
	case e.pages < splitPages:
	case len(t.key) > 0:
		bounds, err = r.sample(ctx, t, e, n)
	case t.followed:
		for i := range n - 1 {
			bounds = append(bounds, place{e.files, e.pages * int64(i+1) / int64(n)}.bound())
		}
	}
	if err != nil {
		return nil, err
	}
	if err := r.conn.PgConn().Exec(ctx, "COMMIT").Close(); err != nil {
		return nil, err
	}
	r.used = false
	return bounds, nil
}

// sample returns the keys that cut a sample of pages into equal parts.
func (r *reader) sample(ctx context.Context, t *table, e *extent, n int) ([]snapshot.Bound, error) {
	texts, names := make([]string, len(t.key)), make([]string, len(t.key))
	for i := range t.key {
		texts[i], names[i] = ident(t.key[i].name)+"::text", ident(t.key[i].name)
	}
	percent := min(100, 100*float64(n*samplePages)/float64(max(1, e.pages)))
	sql := fmt.Sprintf(`SELECT ARRAY[%s] FROM (SELECT %s, row_number() OVER (ORDER BY %s) AS "deltaforge row", count(*) OVER () AS "deltaforge rows" FROM %s TABLESAMPLE SYSTEM (%g)) s
		WHERE "deltaforge row" * %[6]d / "deltaforge rows" > ("deltaforge row" - 1) * %[6]d / "deltaforge rows" AND "deltaforge row" < "deltaforge rows"
		ORDER BY "deltaforge row"`,
		strings.Join(texts, ", "), strings.Join(names, ", "), orderBy(t.key), t.from(), percent, n)
	rows, err := r.conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("taking a sample of the keys: %w", err)
	}
	var bounds []snapshot.Bound
	var values [][]byte
	_, err = pgx.ForEachRow(rows, []any{&values}, func() error {
		bounds = append(bounds, appendBound(t.key, values))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("taking a sample of the keys: %w", err)
	}
	return bounds, nil
}
