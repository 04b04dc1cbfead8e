package row

import (
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/binlog"
	"github.com/deltaforge/deltaforge/internal/change"
)

// row decodes the next row into values. An error means that the rest cannot be trusted; d.err that one value cannot be represented.
func (d *rowDecoder) row() (err error) {
	s := d.seg
	d.err = nil
	left := len(d.rest)
	var p change.Pair
	if s.Event.Before != nil {
		if p.Before, err = d.image(s.Event.Before, s.Event.NBefore, nil, false); err != nil {
			return err
		}
	}
	if s.Event.After != nil {
		if p.After, err = d.image(s.Event.After, s.Event.NAfter, p.Before, s.Event.Partial); err != nil {
			return err
		}
	}
	if len(d.rest) == left && !s.Event.Blank() {
		return fmt.Errorf("a row without bytes: %w", binlog.ErrTruncated)
	}
	d.pair = p
	return nil
}

// image decodes one row image into values from the slab. An after image of a partial update can refer to the before image.
func (d *rowDecoder) image(present []byte, count int, before []change.Value, partialEvent bool) ([]change.Value, error) {
	columns := d.seg.Layout.Columns
	img, err := binlog.OpenImage(d.rest, d.seg.TableMap.Types, count, partialEvent)
	if err != nil {
		return nil, err
	}
	if len(d.values) < len(columns) {
		d.values = make([]change.Value, d.chunk*d.images*len(columns))
		d.arena = make([]byte, 0, d.chunk*d.size) // texts of numbers and times are about as long as twice their bytes
	}
	row := d.values[:len(columns):len(columns)]
	d.values = d.values[len(columns):]
	if count == len(columns) && img.Partial == nil {
		err = d.whole(row, img)
	} else {
		err = d.some(row, img, present, before)
	}
	return row[:len(d.seg.Layout.Table.Columns)], err
}

// images is how many images a row has.
func (s *Segment) images() int {
	if s.Event.Before != nil && s.Event.After != nil {
		return 2
	}
	return 1
}

// missing tells why the images lack columns. With binlog_row_image=NOBLOB an update or delete leaves out blobs, and only those:
// the row has a value that the log does not carry. With MINIMAL it leaves out all sorts of columns: they are no part of the image.
func (s *Segment) missing() change.Value {
	if s.Event.Kind == binlog.Insert {
		return change.Value{}
	}
	for i := range s.Layout.Table.Columns {
		lacks := s.Event.Before != nil && !binlog.IsSet(s.Event.Before, i) || s.Event.After != nil && !binlog.IsSet(s.Event.After, i)
		if lacks && !binlog.IsBlob(s.Layout.Columns[i].Type) {
			return change.Value{}
		}
	}
	return change.UnavailableValue()
}

// whole decodes an image that has every column, which almost all have.
func (d *rowDecoder) whole(row []change.Value, img binlog.Image) (err error) {
	columns, widths, rest := d.seg.Layout.Columns, d.seg.TableMap.Widths, img.Values
	for i := range row {
		if binlog.IsSet(img.Nulls, i) {
			row[i] = change.NullValue()
			continue
		}
		n, err := widths[i].Size(rest)
		if err != nil {
			return fmt.Errorf("column %s: %w", d.seg.Layout.name(i), err)
		}
		if row[i], d.arena, err = columns[i].decode(rest[:n:n], d.arena); err != nil {
			d.inexact(i, err)
		}
		rest = rest[n:]
	}
	d.rest = rest
	return nil
}

// some decodes an image that lacks columns, or has differences in place of JSON documents.
func (d *rowDecoder) some(row []change.Value, img binlog.Image, present []byte, before []change.Value) error {
	columns, widths, rest := d.seg.Layout.Columns, d.seg.TableMap.Widths, img.Values
	nth, nthJSON := 0, 0
	for i := range columns {
		c := &columns[i]
		partial := false
		if img.Partial != nil && c.Type == mysql.MYSQL_TYPE_JSON {
			partial = binlog.IsSet(img.Partial, nthJSON)
			nthJSON++
		}
		if !binlog.IsSet(present, i) {
			row[i] = d.missing
			if before != nil && d.missing.Kind() == change.Unavailable && before[i].Known() {
				row[i] = before[i] // what an after image leaves out has not changed
			}
			continue
		}
		null := binlog.IsSet(img.Nulls, nth)
		nth++
		if null {
			row[i] = change.NullValue()
			continue
		}
		n, err := widths[i].Size(rest)
		if err != nil {
			return fmt.Errorf("column %s: %w", d.seg.Layout.name(i), err)
		}
		switch {
		case partial && (before == nil || before[i].Kind() != change.JSON):
			row[i] = change.UnavailableValue()
		case partial:
			row[i], err = d.differs(before[i], rest[c.Meta:n])
		default:
			row[i], d.arena, err = c.decode(rest[:n:n], d.arena)
		}
		if err != nil {
			d.inexact(i, err)
		}
		rest = rest[n:]
	}
	d.rest = rest
	return nil
}

// inexact notes that a value of the row cannot be represented.
func (d *rowDecoder) inexact(column int, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("column %s: %w", d.seg.Layout.name(column), err)
	}
}

// differs returns what the differences make of a JSON document.
func (d *rowDecoder) differs(before change.Value, diff []byte) (change.Value, error) {
	if len(diff) == 0 {
		return before, nil
	}
	start := len(d.arena)
	out, err := appendJSONDiff(d.arena, before.Bytes(), diff)
	if err != nil {
		return change.UnavailableValue(), err
	}
	d.arena = out
	return change.JSONValue(out[start:len(out):len(out)]), nil
}
