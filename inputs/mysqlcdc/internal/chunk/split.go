package chunk

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/product"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/row"
	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/statement"
	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// A table is split without reading it: places are taken evenly between the first and the last value of the key's first column, each is moved
// to the rows on both sides of it, which the index finds at once, and what lies between two of them is what the server estimates for an
// EXPLAIN. Where that is too much, there are more places in between.

const (
	// smallTable is the number of rows below which a table is not split.
	smallTable = 2000
	// maxPlaces is how many places are taken between two at once, and splitRounds how often.
	maxPlaces   = 64
	splitRounds = 4
	// maxGap is how much of a part may lie between two places. Places are taken twice as densely, and the estimates are coarse.
	maxGap = 0.75
)

// Split implements snapshot.Reader.
func (r *reader) Split(ctx context.Context, table string, n int) ([]snapshot.Bound, error) {
	defer r.conn.Interrupt(ctx)()
	bounds, err := r.split(ctx, r.source.name(table), n)
	if err != nil {
		return nil, fault.WithTable(table, fmt.Errorf("splitting %s: %w", table, err))
	}
	return bounds, nil
}

func (r *reader) split(ctx context.Context, n statement.TableName, parts int) ([]snapshot.Bound, error) {
	t, err := r.table(ctx, n)
	if err != nil || len(t.key.parts) == 0 || parts < 2 {
		return nil, err
	}
	rows, err := r.estimate(ctx, t, "")
	if err != nil || rows < smallTable {
		return nil, err
	}
	first := key{index: t.key.index, parts: t.key.parts[:1], signature: t.key.signature}
	points, err := r.ends(ctx, t, &first)
	if err != nil || points == nil {
		return nil, err
	}
	s := splitter{r: r, t: t, k: &first, weights: map[[2]string]float64{}}
	limit := rows / float64(parts) * maxGap
	for range splitRounds {
		finer, err := s.refine(ctx, points, limit, parts)
		if err != nil {
			return nil, err
		}
		if len(finer) == len(points) {
			break
		}
		points = finer
	}
	return s.even(ctx, points, parts)
}

// splitter splits one table by a key of one column.
type splitter struct {
	r       *reader
	t       *table
	k       *key
	weights map[[2]string]float64 // of what lies between two points
}

// refine puts points between those that have too many rows between them.
func (s *splitter) refine(ctx context.Context, points []string, limit float64, parts int) (finer []string, err error) {
	finer = points[:1:1]
	for i := 1; i < len(points); i++ {
		weight, err := s.weight(ctx, points[i-1], points[i])
		if err != nil {
			return nil, err
		}
		if weight > limit {
			places := s.k.parts[0].between(points[i-1], points[i], min(2*parts, maxPlaces))
			near, err := s.nearRows(ctx, points[i-1], points[i], places)
			if err != nil {
				return nil, err
			}
			finer = append(finer, near...)
		}
		finer = append(finer, points[i])
	}
	return finer, nil
}

// weight estimates the rows after a point up to another.
func (s *splitter) weight(ctx context.Context, from, to string) (float64, error) {
	if w, ok := s.weights[[2]string{from, to}]; ok {
		return w, nil
	}
	p := &s.k.parts[0]
	w, err := s.r.estimate(ctx, s.t, s.k.after([]string{p.literal(from)})+" AND "+s.k.upTo([]string{p.literal(to)}))
	if err == nil {
		s.weights[[2]string{from, to}] = w
	}
	return w, err
}

// estimate returns how many rows the server thinks that a condition has; empty for none.
func (r *reader) estimate(ctx context.Context, t *table, condition string) (float64, error) {
	column, format := 9, "FORMAT=TRADITIONAL "
	if r.server.flavor == product.MariaDB {
		column, format = 8, ""
	}
	if condition != "" {
		condition = " USE INDEX (" + statement.QuoteName(t.key.index) + ") WHERE " + condition // with FORCE, MySQL does not estimate
	}
	rows, err := r.conn.Query(ctx, "EXPLAIN "+format+"SELECT 1 FROM "+t.SQL()+condition)
	if err != nil || len(rows) == 0 || len(rows[0]) <= column {
		return 0, err
	}
	n, err := strconv.ParseFloat(rows[0][column], 64)
	if err != nil { // it has none: nothing matches
		return 0, nil //nolint:nilerr // see above
	}
	return n, nil
}

// order returns the order of the first column of the key, or the reverse.
func (p *keyPart) orderBy(reverse bool) string {
	if p.desc != reverse {
		return statement.QuoteName(p.name) + " DESC"
	}
	return statement.QuoteName(p.name)
}

// selected is the column as its bounds are made of it.
func (p *keyPart) selected() string {
	if p.form == formLabel {
		return "CAST(" + statement.QuoteName(p.name) + " AS UNSIGNED)"
	}
	return statement.QuoteName(p.name)
}

// ends returns the first and the last value of the first column, as elements of bounds; nil for a table without rows.
func (r *reader) ends(ctx context.Context, t *table, k *key) ([]string, error) {
	p := &k.parts[0]
	one := func(reverse bool) string {
		return "(SELECT " + p.selected() + " AS k FROM " + t.SQL() + " FORCE INDEX (" + statement.QuoteName(k.index) + ") ORDER BY " + p.orderBy(reverse) + " LIMIT 1)"
	}
	var ends []string
	for _, reverse := range []bool{false, true} {
		points, err := r.points(ctx, t, k, one(reverse))
		if err != nil || len(points) == 0 {
			return nil, err
		}
		ends = append(ends, points[0])
	}
	return ends, nil
}

// nearRows returns the values of the first column in the rows on both sides of places between two points, in order, each once. One query asks
// for one row: in a part of a UNION, MySQL would read a bufferful of rows for each.
func (s *splitter) nearRows(ctx context.Context, from, to string, places []string) (near []string, err error) {
	p := &s.k.parts[0]
	inside := s.k.upTo([]string{p.literal(to)})
	for _, place := range places {
		for _, reverse := range []bool{true, false} {
			side := s.k.after
			if reverse {
				side = s.k.upTo
			}
			rows, err := s.r.points(ctx, s.t, s.k, "SELECT "+p.selected()+" AS k FROM "+s.t.SQL()+" FORCE INDEX ("+statement.QuoteName(s.k.index)+") WHERE "+
				s.k.after([]string{p.literal(from)})+" AND "+side([]string{p.literal(place)})+" AND "+inside+" ORDER BY "+p.orderBy(reverse)+" LIMIT 1")
			if err != nil {
				return nil, err
			}
			if len(rows) > 0 && rows[0] != to {
				near, from = append(near, rows[0]), rows[0]
			}
		}
	}
	return near, nil
}

// points returns what a query gives of the first column, as elements of bounds.
func (r *reader) points(ctx context.Context, t *table, k *key, sql string) (points []string, err error) {
	result, err := r.conn.Stream(ctx, sql)
	if err != nil {
		return nil, err
	}
	decoder, err := row.NewResult(&row.Layout{Table: &change.Table{}}, []byte{result.Columns[0].Type})
	if err != nil {
		return nil, err
	}
	one := *t
	one.key = key{parts: slices.Clone(k.parts[:1]), signature: k.signature}
	one.key.parts[0].order = 0
	for {
		p, err := result.Next(ctx)
		if err != nil || p == nil {
			return points, err
		}
		raw, err := decoder.Raw(p)
		if err != nil {
			return nil, err
		}
		b, err := one.bound(raw)
		if err != nil {
			return nil, err
		}
		elements, err := one.key.elements(b)
		if err != nil {
			return nil, err
		}
		points = append(points, elements[0])
	}
}

// even chooses of the points those that cut the table into even parts.
func (s *splitter) even(ctx context.Context, points []string, parts int) (chosen []snapshot.Bound, err error) {
	weights := make([]float64, len(points))
	total := 0.0
	for i := 1; i < len(points); i++ {
		if weights[i], err = s.weight(ctx, points[i-1], points[i]); err != nil {
			return nil, err
		}
		total += weights[i]
	}
	part, err := s.r.estimate(ctx, s.t, s.k.upTo([]string{s.k.parts[0].literal(points[0])})) // the rows of the first point
	if err != nil {
		return nil, err
	}
	total += part
	for i := 1; i < len(points)-1 && len(chosen) < parts-1; i++ {
		part += weights[i]
		// It is better to cut here than at the next point, or not far from it.
		if part+weights[i+1]/2 >= total/float64(parts) {
			b, err := s.k.boundOf(points[i])
			if err != nil {
				return nil, err
			}
			chosen, part = append(chosen, b), 0
		}
	}
	return chosen, nil
}

// boundOf makes a bound of an element of the first column.
func (k *key) boundOf(element string) (snapshot.Bound, error) {
	switch k.parts[0].form {
	case formInteger, formLabel, formBits:
		return json.Marshal([]any{k.signature, json.Number(element)})
	default:
		return json.Marshal([]string{k.signature, element})
	}
}

// between returns about n places between two values of the column, as elements of bounds. None where nothing is known of what lies between.
func (p *keyPart) between(first, last string, n int) (places []string) {
	switch p.form {
	case formInteger, formDecimal:
		return evenNumbers(first, last, n)
	case formFloat:
		lo, _ := strconv.ParseFloat(first, 64)
		hi, _ := strconv.ParseFloat(last, 64)
		for i := 1; i < n; i++ {
			if f := lo + (hi/float64(n)-lo/float64(n))*float64(i); !math.IsInf(f, 0) && !math.IsNaN(f) {
				places = append(places, strconv.FormatFloat(f, 'e', -1, 64))
			}
		}
	case formTime:
		const layout = "2006-01-02 15:04:05.000000"
		lo, err := time.Parse(layout, first)
		hi, err2 := time.Parse(layout, last)
		if err != nil || err2 != nil { // a TIME, or a date that no calendar has
			return nil
		}
		for i := 1; i < n; i++ {
			seconds := lo.Unix() + (hi.Unix()-lo.Unix())/int64(n)*int64(i)
			places = append(places, time.Unix(seconds, 0).UTC().Format(layout))
		}
	case formText, formBinary:
		lo, err := hex.DecodeString(first)
		hi, err2 := hex.DecodeString(last)
		if err == nil && err2 == nil {
			places = evenBytes(lo, hi, n, p.form == formText)
		}
	}
	return places
}

// evenNumbers returns numbers between two, which may have many digits.
func evenNumbers(first, last string, n int) (places []string) {
	lo, ok := new(big.Rat).SetString(first)
	hi, ok2 := new(big.Rat).SetString(last)
	if !ok || !ok2 {
		return nil
	}
	step := new(big.Rat).Quo(new(big.Rat).Sub(hi, lo), big.NewRat(int64(n), 1))
	for at, i := new(big.Rat).Set(lo), 1; i < n; i++ {
		at.Add(at, step)
		places = append(places, at.FloatString(0))
	}
	return slices.Compact(places)
}

// evenBytes returns strings between two: what they have in common, and two bytes more; of text, characters that every character set has.
// Strings of more than one byte a character are none.
func evenBytes(lo, hi []byte, n int, text bool) (places []string) {
	common := 0
	for common < len(lo) && common < len(hi) && lo[common] == hi[common] {
		common++
	}
	least, most := 0, 1<<8-1
	if text {
		least, most = ' ', '~'
		if slices.ContainsFunc(lo[:common], func(b byte) bool { return b < ' ' || b > '~' }) {
			return nil
		}
	}
	digit := func(s []byte, i int) int {
		if i >= len(s) {
			return least
		}
		return min(max(int(s[i]), least), most)
	}
	base := most - least + 1
	number := func(s []byte) int { return (digit(s, common)-least)*base + digit(s, common+1) - least }
	from, to := number(lo), number(hi)
	if to < from { // in an order other than that of bytes
		from, to = 0, base*base-1
	}
	for i := 1; i < n; i++ {
		v := from + (to-from)*i/n
		s := append(slices.Clone(lo[:common]), byte(v/base+least), byte(v%base+least))
		places = append(places, hex.EncodeToString(s))
	}
	return slices.Compact(places)
}
