package javascript

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"github.com/dop251/goja"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/step"
)

// objects are the events of a batch in the engine.
type objects struct {
	list    goja.Value
	objects []*object // by change; nil for a message that is not an event
	index   map[*goja.Object]int
}

// object is an event in the engine, and its rows as they were put there.
type object struct {
	*goja.Object
	before, after *image
	meta          *goja.Object
}

// image is a row in the engine.
type image struct {
	*goja.Object
	values []goja.Value // by column, nil for none
}

const safe = 1 << 53

// events puts a batch into the engine.
func (m *machine) events(changes []step.Change) *objects {
	o := &objects{index: map[*goja.Object]int{}, objects: make([]*object, len(changes))}
	var list []any
	for i, c := range changes {
		ev := c.Event
		if ev == nil {
			continue
		}
		e := &object{Object: m.NewObject(), meta: m.NewObject()}
		e.before, e.after = m.row(ev.Table, ev.Before()), m.row(ev.Table, ev.After())
		for name, v := range map[string]any{
			"op": string(rune(ev.Op)), "database": ev.Table.Database, "schema": ev.Table.Schema, "table": ev.Table.Name, "event_id": string(ev.AppendID(nil)),
			"ts_ms": ev.Tx.CommitTime.UnixMilli(), "metadata": e.meta, "before": e.before.value(), "after": e.after.value(),
		} {
			_ = e.Set(name, v)
		}
		o.objects[i] = e
		o.index[e.Object] = i
		list = append(list, e.Object)
	}
	o.list = m.NewArray(list...)
	return o
}

func (i *image) value() goja.Value {
	if i == nil {
		return goja.Null()
	}
	return i.Object
}

func (m *machine) row(t *change.Table, row []change.Value) *image {
	if row == nil {
		return nil
	}
	i := &image{Object: m.NewObject(), values: make([]goja.Value, len(row))}
	for c, v := range row {
		if v.Kind() != change.Absent {
			i.values[c] = m.value(v)
			_ = i.Set(t.Columns[c].Name, i.values[c])
		}
	}
	return i
}

// value puts a value into the engine.
func (m *machine) value(v change.Value) goja.Value {
	switch v.Kind() {
	case change.Null:
		return goja.Null()
	case change.Unavailable:
		return m.unavailable
	case change.Bool:
		return m.ToValue(v.Bool())
	case change.Int:
		if n := v.Int(); n > -safe && n < safe {
			return m.ToValue(n)
		}
		return m.large(big.NewInt(v.Int()))
	case change.Uint:
		if v.Uint() < safe {
			return m.ToValue(int64(v.Uint()))
		}
		return m.large(new(big.Int).SetUint64(v.Uint()))
	case change.Float32:
		f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v.Float32()), 'g', -1, 32), 64) // 3.3 and not 3.299999952316284
		return m.ToValue(f)
	case change.Float64:
		return m.ToValue(v.Float64())
	case change.Bytes:
		return m.ToValue(m.NewArrayBuffer(slices.Clone(v.Bytes())))
	default:
		return m.ToValue(string(v.Bytes()))
	}
}

func (m *machine) large(n *big.Int) goja.Value {
	if m.strings {
		return m.ToValue(n.String())
	}
	return m.ToValue(n)
}

var errReturned = errors.New("processBatch must return an array of the events that it was given, each at most once, in their order")

// kept says for each change whether the script has returned it.
func (o *objects) kept(result goja.Value) ([]bool, error) {
	list, ok := result.(*goja.Object)
	if !ok || list.ClassName() != "Array" {
		return nil, errReturned
	}
	kept := make([]bool, len(o.objects))
	n, last := list.Get("length").ToInteger(), -1
	if n > int64(len(o.objects)) {
		return nil, errReturned
	}
	for i := range n {
		e, ok := list.Get(strconv.FormatInt(i, 10)).(*goja.Object)
		if !ok {
			return nil, errReturned
		}
		at, ours := o.index[e]
		if !ours || at <= last {
			return nil, errReturned
		}
		kept[at], last = true, at
	}
	return kept, nil
}

// errLarge is about what the script returns.
var errLarge = fmt.Errorf("what the script returns is larger than %s", fieldMemory)

// metadata returns what the script has put into the event's metadata.
func (o *object) metadata(m *machine, left *int64) (out [][2]string, err error) {
	meta, ok := o.Get("metadata").(*goja.Object)
	if !ok {
		return nil, nil
	}
	for _, name := range meta.Keys() {
		if name == change.MetaEventID {
			return nil, fmt.Errorf("metadata %s is the event's own; choose another name", name)
		}
		v := meta.Get(name)
		text := v.String()
		if _, object := v.(*goja.Object); object {
			if text, err = m.json(v); err != nil {
				return nil, fmt.Errorf("metadata %s: %w", name, err)
			}
		}
		if *left -= int64(len(name) + len(text)); *left < 0 {
			return nil, errLarge
		}
		out = append(out, [2]string{name, text})
	}
	return out, nil
}

// json returns a value as JSON.
func (m *machine) json(v goja.Value) (string, error) {
	s, err := m.stringify(goja.Undefined(), v)
	if err != nil {
		return "", told(err)
	}
	if goja.IsUndefined(s) {
		return "", errors.New("it has no JSON")
	}
	return s.String(), nil
}
