package redisout

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// What the field `write` can be.
const (
	writeStream     = "stream"
	writeHash       = "hash"
	writeString     = "string"
	writeInvalidate = "invalidate"
	writeList       = "list"
	writePublish    = "publish"
)

func writeModes() map[string]string {
	return map[string]string{
		writeStream: "Add each event to a stream (`XADD`).",
		writeHash: "Keep a copy of each row in a hash, a field a column, under `<prefix>:<schema or database>.<table>:<primary key>`. A column that is NULL has no field. A value that " +
			"the log does not carry leaves its field as it is. Statements that change rows without logging them, such as a new column with a default or a dropped one, show in a hash when its row " +
			"changes or is loaded again (`deltaforge snapshot start`).",
		writeString:     "Keep a copy of each row as a JSON object in a string, under the same key.",
		writeInvalidate: "Delete the key of each row that an event is about (`UNLINK`), for a cache that somebody else fills.",
		writeList:       "Append each event to a list (`RPUSH`), under the name that a stream would have.",
		writePublish:    "Publish each event to a channel (`PUBLISH`), under the name that a stream would have. Redis keeps nothing for a subscriber that is away.",
	}
}

// copies reports whether the output keeps something for each row, under its primary key.
func (c *config) copies() bool {
	return c.write == writeHash || c.write == writeString || c.write == writeInvalidate
}

// checkWrite holds what is written against the other fields.
func (c *config) checkWrite() error {
	if _, known := writeModes()[c.write]; !known {
		return fmt.Errorf("%q is not one of stream, hash, string, invalidate, list, publish", c.write)
	}
	switch {
	case c.copies() && c.prefix == "":
		return fmt.Errorf("%s needs %s: the key of a row is <prefix>:<schema or database>.<table>:<primary key>, and what the output remembers is under the prefix", c.write, fieldPrefix)
	case c.key != nil && !c.copies():
		return fmt.Errorf("%s has no %s, which is about hash, string and invalidate", c.write, fieldKey)
	case c.key != nil && isStatic(c.key):
		return fmt.Errorf(`%s is the same for every row: name what is in a row, such as ${! json("id") }`, fieldKey)
	case c.prune && c.write != writeHash && c.write != writeString:
		return fmt.Errorf("%s has no %s, which is about hash and string", c.write, fieldPrune)
	case c.write != writeStream && c.maxLen > 0:
		return fmt.Errorf("%s has no %s, which is about streams", c.write, fieldMaxLen)
	case c.write != writeStream && c.minID != nil:
		return fmt.Errorf("%s has no %s, which is about streams", c.write, fieldMinID)
	case c.write != writeStream && c.exactly:
		return fmt.Errorf("%s has no %s: replayed events bring a copy to the same rows again", c.write, fieldExactly)
	case c.ttl != 0 && c.write != writeHash && c.write != writeString:
		return fmt.Errorf("%s has no %s, which is about hash and string", c.write, fieldTTL)
	case c.ttl != 0 && c.ttl < time.Millisecond:
		return fmt.Errorf("%s of %s is shorter than 1ms", fieldTTL, c.ttl)
	}
	return nil
}

func isStatic(s *service.InterpolatedString) bool {
	_, static := s.Static()
	return static
}

// command is an entry of one command.
func command(key string, size int, args ...any) entry {
	e := entry{stream: name{key, key}, args: args, size: entryOverhead + size}
	for _, a := range args {
		if text, ok := a.(string); ok && len(text) > len(e.event) {
			e.event = text // what the server's limit is about
		}
	}
	return e
}

// commands returns the commands of an event for a list or a channel.
func (b *builder) commands(m *service.Message) ([]entry, error) {
	payload, err := m.AsBytes()
	if err != nil {
		return nil, sink.Errorf(sink.Serialization, "reading the payload: %w", err)
	}
	to, err := b.stream(m)
	if err != nil {
		return nil, err
	}
	verb := "rpush"
	if b.conf.write == writePublish {
		verb = "publish"
	}
	return []entry{command(to.text, len(payload), verb, to.text, stringOf(payload))}, nil
}

// row returns the commands that bring the copy of a row to where an event leaves it.
func (b *builder) row(m *service.Message) ([]entry, error) {
	ev, ok := change.FromMessage(m)
	if !ok {
		return nil, sink.Errorf(sink.Routing, "%s: %s needs the event of a DeltaForge source, and this message has none", fieldWrite, b.conf.write)
	}
	t := ev.Table
	switch ev.Op {
	case change.Truncate:
		return b.conf.sweepOf(t.FullName())
	case change.Schema, change.Message:
		return nil, nil
	}
	if len(t.Key) == 0 {
		return nil, sink.Errorf(sink.Routing, "table %s has no key, so its rows cannot be kept one by one: give it a primary key, or leave it out of %s", t.FullName(), b.conf.write)
	}
	now, old, err := b.keysOf(m, ev)
	if err != nil {
		return nil, err
	}
	if ev.Op == change.Delete || b.conf.write == writeInvalidate {
		out := b.unlink(nil, t, now)
		if old != now {
			out = b.unlink(out, t, old)
		}
		return out, nil
	}
	var out []entry
	if old != now {
		out = b.unlink(out, t, old)
	}
	b.shown.add(t.FullName(), now)
	if b.conf.key != nil {
		out = b.remember(out, ev, now)
	}
	if b.conf.write == writeString {
		e, err := b.object(ev, now)
		return append(out, e), err
	}
	return append(out, b.hash(ev, now)...), nil
}

// sweepOf returns the entry that removes all keys of a table.
func (c *config) sweepOf(table string) ([]entry, error) {
	if c.key != nil && c.write == writeInvalidate {
		return nil, sink.Errorf(sink.Routing, "table %s was truncated, and %s with %s does not know which keys its rows have had: remove them, and leave the event out (deltaforge_filter with ops: [t], "+
			"or a dead_letter)", table, c.write, fieldKey)
	}
	e := command(c.rowPrefix(table), 0)
	e.sweep = table
	return []entry{e}, nil
}

// hash returns the commands that bring a hash to the new image of an event.
func (b *builder) hash(ev *change.Event, key string) (out []entry) {
	row := ev.After()
	set, texts := append(make([]any, 0, 2+2*len(row)), "hset", key), make([]string, len(row))
	del, size, longest := []any{"hdel", key}, len(key), key
	for i, v := range row {
		column := &ev.Table.Columns[i].Name // the client takes pointers to strings, which cost no allocation
		switch {
		case !v.Known():
		case v.IsNull():
			del = append(del, *column)
		default:
			texts[i] = plain(v)
			set = append(set, column, &texts[i])
			size += len(*column) + len(texts[i])
			if len(texts[i]) > len(longest) {
				longest = texts[i]
			}
		}
	}
	for _, column := range b.gone(ev.Table) {
		del = append(del, column)
	}
	if ev.Op == change.Read { // a row that is loaded is whole, and what its hash has besides is of an earlier shape
		out, del = append(out, command(key, len(key), "unlink", key)), del[:2]
	}
	if len(set) > 2 {
		out = append(out, entry{stream: name{key, key}, args: set, size: entryOverhead + size, event: longest})
	}
	if len(del) > 2 {
		out = append(out, command(key, len(key), del...))
	}
	if b.conf.ttl > 0 {
		out = append(out, command(key, len(key), "pexpire", key, b.conf.ttl.Milliseconds()))
	}
	return out
}

// object returns the command that sets a string to the new image of an event.
func (b *builder) object(ev *change.Event, key string) (entry, error) {
	row := []byte{'{'}
	for i, v := range ev.After() {
		column := ev.Table.Columns[i].Name
		if !v.Known() {
			return entry{}, sink.Errorf(sink.Serialization, "the log does not carry column %s of this row of %s, and a string is written whole: use `write: hash`, or have the "+
				"server log whole rows (binlog_row_image=FULL, REPLICA IDENTITY FULL)", column, ev.Table.FullName())
		}
		if i > 0 {
			row = append(row, ',')
		}
		row = append(envelope.AppendString(row, column), ':')
		row = envelope.AppendValue(row, v)
	}
	row = append(row, '}')
	args := []any{"set", key, stringOf(row)}
	if b.conf.ttl > 0 {
		args = append(args, "px", b.conf.ttl.Milliseconds())
	}
	return command(key, len(key)+len(row), args...), nil
}

// plain returns a value as a person writes it: text as it is, binary data as its bytes, everything else as in the native format.
func plain(v change.Value) string {
	switch v.Kind() {
	case change.Text, change.Decimal, change.Bytes, change.JSON:
		return stringOf(v.Bytes())
	default:
		return strings.Trim(stringOf(envelope.AppendValue(make([]byte, 0, 24), v)), `"`)
	}
}

// sweepPage is about how many keys SCAN looks at in one call.
const sweepPage = 1000

// sweep removes the keys of a table that was truncated. The removals go out in transactions of their own, one after the other, so that none can
// arrive late.
func (a *attempt) sweep(ctx context.Context, cl *redis.Client, c *config, i int) error {
	table := a.entries[i].sweep
	return c.eachPage(ctx, cl, table, func(keys []string) error { return c.remove(ctx, cl, table, keys) })
}
