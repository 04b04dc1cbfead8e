package redisout

import (
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/envelope"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// rowPrefix is what the keys of a table's rows begin with, and no key of another table. A colon in a table's name is escaped, so that the rows of `t` are told from
// those of `t:x`.
func (c *config) rowPrefix(table string) string { return c.prefix + ":" + escapeName(table) + ":" }

// keysKey is the sorted set that has the keys of a table's rows, where the keys do not say of which table they are. The score is when a key is gone by itself, in
// milliseconds; 0: never.
func (c *config) keysKey(table string) string { return c.prefix + ":keys:" + escapeName(table) }

// escapeName writes a percent sign and a colon as %25 and %3A.
func escapeName(name string) string {
	if !strings.ContainsAny(name, "%:") {
		return name
	}
	return strings.ReplaceAll(strings.ReplaceAll(name, "%", "%25"), ":", "%3A")
}

// keysOf returns the key of an event's row after it (of a delete, before it), and the one before it, which is the same where the event does not change it.
func (b *builder) keysOf(m *service.Message, ev *change.Event) (now, old string, err error) {
	if b.conf.key != nil {
		return b.customKeys(m, ev)
	}
	prefix := b.rowPrefix(ev.Table)
	if now, err = rowKey(prefix, ev.Table, ev.After(), ev.Before()); err != nil {
		return "", "", err
	}
	if ev.Before() == nil { // then the event leaves the key as it is
		return now, now, nil
	}
	if old, err = rowKey(prefix, ev.Table, ev.Before(), ev.After()); err != nil {
		old = now
	}
	return now, old, nil
}

// rowPrefix is config.rowPrefix of a table that was asked for before.
func (b *builder) rowPrefix(t *change.Table) string {
	if b.prefixOf == t {
		return b.prefix
	}
	b.prefixOf, b.prefix = t, b.conf.rowPrefix(t.FullName())
	return b.prefix
}

// rowKey returns the key of a row: the values of its primary key, from the first of the images that has them. In a key of several columns a
// percent sign and a colon are written %25 and %3A, so that two keys never look alike.
func rowKey(prefix string, t *change.Table, images ...[]change.Value) (string, error) {
	var b strings.Builder
	for n, c := range t.Key {
		var v change.Value
		for _, row := range images {
			if c < len(row) && row[c].Known() {
				v = row[c]
				break
			}
		}
		if !v.Known() {
			return "", sink.Errorf(sink.Serialization, "the log does not carry the key column %s of this row of %s", t.Columns[c].Name, t.FullName())
		}
		text := plain(v)
		if len(t.Key) == 1 {
			return prefix + text, nil
		}
		if n > 0 {
			b.WriteByte(':')
		}
		b.WriteString(escapeName(text))
	}
	return prefix + b.String(), nil
}

// customKeys are the keys by the field `key`.
func (b *builder) customKeys(m *service.Message, ev *change.Event) (now, old string, err error) {
	t := ev.Table
	was := make([]change.Value, len(t.Columns)) // as far as the log has it
	copy(was, ev.Before())
	for _, c := range t.Key {
		if !was[c].Known() && c < len(ev.After()) { // then the event leaves the key as it is
			was[c] = ev.After()[c]
		}
	}
	switch ev.Op {
	case change.Delete:
		now, err = b.customKey(m, t, was)
		return now, now, err
	case change.Create, change.Read:
		now, err = b.customKey(m, t, ev.After())
		return now, now, err
	}
	is := make([]change.Value, len(t.Columns))
	copy(is, ev.After())
	for c, v := range is {
		if !v.Known() && c < len(ev.Before()) { // the log leaves out what stays as it is
			is[c] = ev.Before()[c]
		}
	}
	if now, err = b.customKey(m, t, is); err != nil {
		return "", "", err
	}
	old, err = b.customKey(m, t, was)
	return now, old, err
}

// customKey is the key of a row. What the log does not carry must not count in it: two values in its place have to give the same key.
func (b *builder) customKey(m *service.Message, t *change.Table, row []change.Value) (key string, err error) {
	lacks := ""
	for i := range t.Columns {
		if i >= len(row) || !row[i].Known() {
			lacks = t.Columns[i].Name
			break
		}
	}
	if key, err = b.interpolated(m, t, row, `"?"`); err != nil || lacks == "" {
		return key, err
	}
	other, err := b.interpolated(m, t, row, `"?2"`)
	if err == nil && other != key {
		err = sink.Errorf(sink.Serialization, "%s is made of a column of %s that the log does not carry for this row, such as %s: make it of the primary key, or have the server log whole rows "+
			"(binlog_row_image=FULL, ALTER TABLE %s REPLICA IDENTITY FULL)", fieldKey, t.FullName(), lacks, t.FullName())
	}
	return key, err
}

// interpolated is the field `key` for a row, with text in place of what is not known.
func (b *builder) interpolated(m *service.Message, t *change.Table, row []change.Value, unknown string) (string, error) {
	content := []byte{'{'}
	for i := range t.Columns {
		if i > 0 {
			content = append(content, ',')
		}
		content = append(envelope.AppendString(content, t.Columns[i].Name), ':')
		if i < len(row) && row[i].Known() {
			content = envelope.AppendValue(content, row[i])
		} else {
			content = append(content, unknown...)
		}
	}
	c := m.Copy()
	c.SetBytes(append(content, '}'))
	key, err := b.conf.key.TryString(c)
	if err != nil {
		return "", sink.Errorf(sink.Routing, "interpolating %s for a row of %s: %w", fieldKey, t.FullName(), err)
	}
	if key == "" {
		return "", sink.Errorf(sink.Routing, "%s is empty for a row of %s", fieldKey, t.FullName())
	}
	return key, nil
}

// unlink appends what removes a row's key.
func (b *builder) unlink(dst []entry, t *change.Table, key string) []entry {
	dst = append(dst, command(key, len(key), "unlink", key))
	if b.conf.key != nil && b.conf.write != writeInvalidate {
		keys := b.conf.keysKey(t.FullName())
		dst = append(dst, command(keys, len(key), "zrem", keys, key))
	}
	return dst
}

const (
	forgetEvery = 256       // keys that are remembered
	forgetAfter = time.Hour // longer than what is sent again takes, mostly
)

// remember appends what puts a key among those of its table, and now and then what takes those out that are gone by themselves. What is sent again has the same times.
func (b *builder) remember(dst []entry, ev *change.Event, key string) []entry {
	keys := b.conf.keysKey(ev.Table.FullName())
	if b.conf.ttl == 0 {
		return append(dst, command(keys, len(key), "zadd", keys, 0, key))
	}
	dst = append(dst, command(keys, len(key), "zadd", keys, ev.ReadAt.Add(b.conf.ttl).UnixMilli(), key))
	if ev.Index%forgetEvery == 0 { // a row of a snapshot has none, so 0
		dst = append(dst, command(keys, 0, "zremrangebyscore", keys, 1, ev.ReadAt.Add(-forgetAfter).UnixMilli()))
	}
	return dst
}

// globEscape escapes what has a meaning in a pattern of SCAN.
func globEscape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(text)
}
