package redisout

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/change"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// Metadata keys that are read without a field naming them.
const (
	metaDatabase = "database"
	metaSchema   = "schema_name"
	metaTable    = "table"
	metaKey      = "key"
	metaOp       = "op"
	metaEventID  = "event_id"
)

const (
	entryOverhead   = 256 // more than the protocol adds to the fields of an entry
	maxStreamsNamed = 20_000
	idSize          = 48 // of an event id, about
)

type tableName struct{ schema, table string }

// name is a stream's name, also as the client wants it: boxed once and not for each entry.
type name struct {
	text  string
	boxed any
}

// builder turns messages into entries. It is used by one goroutine at a time.
type builder struct {
	conf     *config
	streams  map[tableName]name  // default stream by table; emptied when it grows past maxStreamsNamed
	shown    shown               // the keys of tables that are being loaded
	columns  map[string]*columns // of the tables whose rows are kept as hashes; emptied likewise
	prefixOf *change.Table       // whose keys begin with prefix
	prefix   string
	text     []byte // of what the messages of the attempt have as metadata, but not as text
}

// entry is one stream entry to be.
type entry struct {
	message int
	stream  name
	eventID string
	op      string
	key     string
	event   string
	minID   string // of the stream from now on; empty: it is not trimmed so
	size    int

	args  []any  // of the command, if it is not an XADD
	sweep string // the table whose keys are removed, in place of a command; "" for none
}

// appendArgs appends the XADD command. Every entry has all four fields; what a message lacks is empty. The client takes pointers
// to strings, which cost no allocation.
func (e *entry) appendArgs(args []any, maxLen int64, exact bool) []any {
	args = append(args, "xadd", e.stream.boxed)
	if maxLen > 0 {
		how := "~"
		if exact {
			how = "="
		}
		args = append(args, "maxlen", how, maxLen)
	} else if e.minID != "" {
		args = append(args, "minid", "~", &e.minID)
	}
	return append(args, "*", "event_id", &e.eventID, "op", &e.op, "key", &e.key, "event", &e.event)
}

// command is answered with QUEUED inside a transaction.
func (e *entry) command(ctx context.Context, c *config) *redis.StatusCmd {
	if e.args != nil {
		return redis.NewStatusCmd(ctx, e.args...)
	}
	return redis.NewStatusCmd(ctx, e.appendArgs(make([]any, 0, 14), c.maxLen, c.exactMaxLen)...)
}

// same says whether adding e adds o.
func (e *entry) same(o *entry) bool {
	return e.message == o.message && e.stream.text == o.stream.text && e.eventID == o.eventID && e.op == o.op && e.key == o.key &&
		e.event == o.event && // in the expected case the same memory
		e.sweep == o.sweep && slices.EqualFunc(e.args, o.args, sameArg)
}

// sameArg compares arguments of commands, which are numbers, strings and pointers to strings.
func sameArg(a, b any) bool {
	if p, ok := a.(*string); ok {
		q, ok := b.(*string)
		return ok && *p == *q
	}
	return a == b
}

func (b *builder) build(batch service.MessageBatch, p *pruner) *attempt {
	b.shown.begin(p)
	a := &attempt{entries: make([]entry, 0, len(batch)), messages: len(batch)}
	b.text = make([]byte, 0, idSize*len(batch))
	for i, m := range batch {
		from := len(a.entries)
		b.shown.place = from
		var err error
		if a.entries, err = b.append(a.entries, m); err != nil {
			a.fail(i, err)
			continue
		}
		for n := range a.entries[from:] {
			e := &a.entries[from+n]
			e.message = i
			if err == nil {
				err = b.conf.topology.inSlot(e.stream.text)
			}
		}
		if err != nil {
			a.fail(i, err)
			a.entries = a.entries[:from]
		}
	}
	a.entries = b.shown.put(b.conf, a.entries)
	return a
}

// append appends what a message becomes: one entry of a stream, or the commands of the other modes. A message that fails becomes nothing.
func (b *builder) append(dst []entry, m *service.Message) ([]entry, error) {
	if err := m.GetError(); err != nil && b.conf.rejectErrored {
		return dst, sink.Errorf(sink.Serialization, "message carries an error of an earlier step: %w; "+
			"route it with a switch on errored(), clear it with a catch processor, or set %s: false", err, fieldRejectErrored)
	}
	if err := change.Untold(m); err != nil {
		return dst, sink.Errorf(sink.Routing, "%w", err)
	}
	var all []entry
	var err error
	switch {
	case b.conf.write == writeStream:
		e, err := b.one(m)
		if err != nil {
			return dst, err
		}
		return append(dst, e), nil
	case b.conf.copies():
		all, err = b.row(m)
	default:
		all, err = b.commands(m)
	}
	if err != nil {
		return dst, err
	}
	for _, e := range all {
		if e.size > b.conf.maxMessageBytes {
			return dst, sink.Errorf(sink.TooLarge, "what is written to %s has %d bytes and %s is %d", e.stream.text, e.size, fieldMaxMessageBytes, b.conf.maxMessageBytes)
		}
	}
	return append(dst, all...), nil
}

func (b *builder) one(m *service.Message) (e entry, err error) {
	event, err := m.AsBytes()
	if err != nil {
		return e, sink.Errorf(sink.Serialization, "reading the payload: %w", err)
	}
	e.event = stringOf(event)
	if e.stream, err = b.stream(m); err != nil {
		return e, err
	}
	if e.minID, err = b.minID(m); err != nil {
		return e, err
	}
	e.size = entryOverhead + len(e.event) + len(e.stream.text)
	e.eventID, e.op, e.key = b.meta(m, metaEventID), b.meta(m, metaOp), b.meta(m, metaKey)
	e.size += len(e.eventID) + len(e.op) + len(e.key)
	if e.size > b.conf.maxMessageBytes {
		return e, sink.Errorf(sink.TooLarge, "entry for stream %s has %d bytes and %s is %d", e.stream.text, e.size,
			fieldMaxMessageBytes, b.conf.maxMessageBytes)
	}
	return e, nil
}

// minID returns the id before which entries of the stream are removed, empty for none.
func (b *builder) minID(m *service.Message) (string, error) {
	if b.conf.minID == nil {
		return "", nil
	}
	id, err := b.conf.minID.TryString(m)
	if err == nil {
		err = checkID(id)
	}
	if err != nil {
		return "", sink.Errorf(sink.Routing, "interpolating %s: %w", fieldMinID, err)
	}
	return id, nil
}

// validID is the id of a stream's entry, or its first part.
var validID = regexp.MustCompile(`^\d{1,19}(-\d{1,19})?$`) //nolint:gochecknoglobals // a constant

func checkID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("%q is no id of an entry: want milliseconds, or milliseconds-number", id)
	}
	return nil
}

// meta returns metadata, empty where there is none.
func (b *builder) meta(m *service.Message, key string) string {
	var text []byte
	text, b.text, _ = change.Meta(m, key, b.text)
	return stringOf(text)
}

// stringOf views b, which nobody changes any more, as a string.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (b *builder) stream(m *service.Message) (name, error) {
	if b.conf.stream != nil {
		s, err := b.conf.stream.TryString(m)
		if err != nil {
			return name{}, sink.Errorf(sink.Routing, "interpolating %s: %w", fieldStream, err)
		}
		if s == "" {
			return name{}, sink.Errorf(sink.Routing, "%s is empty for this message", fieldStream)
		}
		return name{s, s}, nil
	}
	var t tableName
	t.table = b.meta(m, metaTable)
	if t.schema = b.meta(m, metaSchema); t.schema == "" {
		t.schema = b.meta(m, metaDatabase)
	}
	if n, ok := b.streams[t]; ok {
		return n, nil
	}
	if t.table == "" || t.schema == "" {
		return name{}, sink.Errorf(sink.Routing, "the default stream needs the metadata table and schema_name or database, "+
			"and this message has table=%q, schema or database=%q; set %s", t.table, t.schema, fieldStream)
	}
	if len(b.streams) >= maxStreamsNamed {
		clear(b.streams)
	}
	s := b.conf.prefix + ":" + t.schema + "." + t.table
	t = tableName{schema: strings.Clone(t.schema), table: strings.Clone(t.table)} // out of the attempt's text
	b.streams[t] = name{s, s}
	return b.streams[t], nil
}
