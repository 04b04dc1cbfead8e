package redisout

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/livecopy"
)

// # Pruning
//
// The rows of a load do not say which keys of the table have no row any more: those that were removed while nobody followed the log. So while a table is
// loaded, the keys that are written, by the load and by the stream, are put into a set, each before its row. At the end of the load every key of the table
// that is not in the set is removed. For that moment nothing else is written, so that no key is removed which the stream has just made.
//
// The hash `<prefix>:loads` says of which load the set of a table is: a restarted process goes on with it. The set has an empty member from its beginning: one
// that was lost on the way, or whose beginning nobody has seen, removes nothing.
type pruner struct {
	conf     *config
	log      *service.Logger
	pipeline *livecopy.Pipeline
	client   func() *redis.Client // nil: not connected

	writing sync.RWMutex // held, across calls to the server, by who writes, and alone by who removes

	mu    sync.Mutex
	known bool            // loads are those that Redis knows; guarded by mu
	loads map[string]bool // tables that are being loaded; guarded by mu
}

var _ livecopy.Keeper = (*pruner)(nil)

// ended follows the name of a load that has ended.
const ended = " ended"

// Between the prefix and a table's name there is no dot, so that these are no keys of rows.
func (c *config) loadsKey() string { return c.prefix + ":loads" }

func (c *config) shownKey(table string) string { return c.prefix + ":loads:" + escapeName(table) }

// resume learns which tables are being loaded. It is called when the output connects, before anything is written.
func (p *pruner) resume(ctx context.Context, cl *redis.Client) error {
	if cl == nil { // closed meanwhile
		return service.ErrNotConnected
	}
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	if known {
		return nil
	}
	found, err := cl.HGetAll(ctx, p.conf.loadsKey()).Result()
	if err != nil {
		return p.explain(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for table, load := range found {
		if !strings.HasSuffix(load, ended) {
			p.loads[table] = true
		}
	}
	p.known = true
	return nil
}

// underWay returns the tables that are being loaded; nil: none.
func (p *pruner) underWay() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.loads) == 0 {
		return nil
	}
	return maps.Clone(p.loads)
}

func (p *pruner) note(table string, loading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if loading {
		p.loads[table] = true
	} else {
		delete(p.loads, table)
	}
}

func (p *pruner) explain(err error) error {
	return classify(err, "the loads of tables under "+p.conf.loadsKey()+" at "+p.conf.shown)
}

// Begin implements livecopy.Keeper.
func (p *pruner) Begin(ctx context.Context, table, load string) error {
	cl := p.client()
	if cl == nil {
		return service.ErrNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, p.conf.timeout)
	defer cancel()
	state, err := cl.HGet(ctx, p.conf.loadsKey(), table).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return p.explain(err)
	}
	if state != load {
		shown := p.conf.shownKey(table)
		if err := atOnce(ctx, cl, p.conf, command(shown, 0, "unlink", shown), command(shown, 0, "sadd", shown, ""),
			command(p.conf.loadsKey(), 0, "hset", p.conf.loadsKey(), table, load)); err != nil {
			return err
		}
	}
	p.note(table, true)
	return nil
}

// End implements livecopy.Keeper.
func (p *pruner) End(ctx context.Context, table, load string) error {
	cl := p.client()
	if cl == nil {
		return service.ErrNotConnected
	}
	shown := p.conf.shownKey(table)
	state, err := cl.HGet(ctx, p.conf.loadsKey(), table).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return p.explain(err)
	}
	whole, err := cl.SIsMember(ctx, shown, "").Result()
	if err != nil {
		return p.explain(err)
	}
	switch {
	case state == load+ended: // before a restart
	case state != load || !whole:
		p.log.With("table", table).Warnf("Nothing is removed from the copy of %s: Redis does not have what this load has shown of it. "+
			"Load it again (deltaforge snapshot start) to have rows removed that it does not have", table)
	default:
		n, err := p.prune(ctx, cl, table)
		if err != nil {
			return err
		}
		p.log.With("table", table).Infof("%d keys are removed from the copy of %s, which has no such rows", n, table)
	}
	p.writing.Lock() // an attempt under way may add to the set
	defer p.writing.Unlock()
	p.note(table, false)
	return atOnce(ctx, cl, p.conf, command(p.conf.loadsKey(), 0, "hset", p.conf.loadsKey(), table, load+ended), command(shown, 0, "unlink", shown))
}

// prune removes the keys of a table that were not shown, and returns how many.
func (p *pruner) prune(ctx context.Context, cl *redis.Client, table string) (removed int, err error) {
	shown := p.conf.shownKey(table)
	err = p.conf.eachPage(ctx, cl, table, func(keys []string) error {
		p.writing.Lock()
		defer p.writing.Unlock()
		pipe, answers := cl.Pipeline(), make([]*redis.BoolCmd, len(keys))
		for i, k := range keys {
			answers[i] = redis.NewBoolCmd(ctx, "sismember", shown, k)
			_ = pipe.Process(ctx, answers[i]) // only queues
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return p.explain(err)
		}
		var gone []string
		for i, k := range keys {
			if !answers[i].Val() {
				gone = append(gone, k)
			}
		}
		removed += len(gone)
		return p.conf.remove(ctx, cl, table, gone)
	})
	return removed, err
}

// eachPage calls f with the keys of a table's rows, some at a time; a key may come twice.
func (c *config) eachPage(ctx context.Context, cl *redis.Client, table string, f func(keys []string) error) error {
	var cursor uint64
	for {
		keys, next, err := c.page(ctx, cl, table, cursor)
		if err != nil {
			return classify(err, "looking for the keys of "+table+" at "+c.shown)
		}
		if len(keys) > 0 {
			if err := f(keys); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// page returns some keys of a table's rows.
func (c *config) page(ctx context.Context, cl *redis.Client, table string, cursor uint64) (keys []string, next uint64, err error) {
	if c.key == nil {
		return cl.Scan(ctx, cursor, globEscape(c.rowPrefix(table))+"*", sweepPage).Result()
	}
	found, next, err := cl.ZScan(ctx, c.keysKey(table), cursor, "", sweepPage).Result()
	for i := 0; i < len(found); i += 2 { // the others are scores
		keys = append(keys, found[i])
	}
	return keys, next, err
}

// remove removes keys of a table's rows.
func (c *config) remove(ctx context.Context, cl *redis.Client, table string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	unlink, args := append(make([]any, 0, len(keys)+1), "unlink"), make([]any, 0, len(keys)+2)
	args = append(args, "zrem", c.keysKey(table))
	for _, k := range keys {
		unlink, args = append(unlink, k), append(args, k)
	}
	all := []entry{command(keys[0], 0, unlink...)}
	if c.key != nil {
		all = append(all, command(c.keysKey(table), 0, args...))
	}
	return atOnce(ctx, cl, c, all...)
}

// atOnce sends one transaction, until it was run. One that is refused fails as a whole.
func atOnce(ctx context.Context, cl *redis.Client, c *config, entries ...entry) error {
	one := &attempt{entries: entries, messages: 1}
	one.begin()
	if err := one.run(ctx, cl, c); err != nil {
		return err
	}
	return one.failed[0]
}

// shown are the keys that an attempt writes for tables that are being loaded. It is used by one goroutine.
type shown struct {
	loads  map[string]bool // nil: none
	place  int             // of the next entry
	tables []*shownTable   // in the order of their places
}

type shownTable struct {
	table string
	at    int // the place of the entry before which they are shown
	args  []any
	size  int
}

// begin begins an attempt.
func (s *shown) begin(p *pruner) {
	if *s = (shown{}); p != nil {
		s.loads = p.underWay()
	}
}

// add notes the key of a row.
func (s *shown) add(table, key string) {
	if !s.loads[table] {
		return
	}
	i := slices.IndexFunc(s.tables, func(t *shownTable) bool { return t.table == table })
	if i < 0 {
		i = len(s.tables)
		s.tables = append(s.tables, &shownTable{table: table, at: s.place, args: []any{"sadd", ""}})
	}
	t := s.tables[i]
	t.args = append(t.args, key)
	t.size += len(key) + 16
}

// put puts the keys into the sets of their tables, each before the first row of its table.
func (s *shown) put(c *config, entries []entry) []entry {
	if len(s.tables) == 0 {
		return entries
	}
	out, from := make([]entry, 0, len(entries)+len(s.tables)), 0
	for _, t := range s.tables {
		if t.at == len(entries) { // its message has failed, and nothing comes after it
			break
		}
		key := c.shownKey(t.table)
		t.args[1] = key
		e := command(key, t.size, t.args...)
		e.message = entries[t.at].message
		out = append(append(out, entries[from:t.at]...), e)
		from = t.at
	}
	return append(out, entries[from:]...)
}
