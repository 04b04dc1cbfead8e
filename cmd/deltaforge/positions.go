package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/exactly"
)

// keeper is where positions are kept.
type keeper interface {
	// Keys returns the keys that have a value, in order.
	Keys(ctx context.Context) ([]string, error)
	// Peek returns the value of a key. It takes nothing over.
	Peek(ctx context.Context, key string) ([]byte, error)
	// InUse says whether a source uses a key, as far as that can be known.
	InUse(key string) (string, error)
	// Forget removes a position and what belongs to it.
	Forget(ctx context.Context, key string) error
	// Put saves the first record of a position.
	Put(ctx context.Context, key string, r checkpoint.Record) error
	// ForgetHistory removes the schema history of a position, and saves its record.
	ForgetHistory(ctx context.Context, key string, r checkpoint.Record) (known bool, err error)
}

// storeKeeper is a keeper of a store. All but SQLite know only the keys of the sources in a configuration.
type storeKeeper struct {
	store interface {
		checkpoint.Store
		checkpoint.Eraser
	}
	keys []string
}

func (k storeKeeper) Keys(ctx context.Context) (keys []string, err error) {
	for _, key := range k.keys {
		switch _, err := k.Peek(ctx, key); {
		case err == nil:
			keys = append(keys, key)
		case !errors.Is(err, checkpoint.ErrNotFound):
			return nil, err
		}
	}
	return keys, nil
}

func (k storeKeeper) Peek(ctx context.Context, key string) ([]byte, error) {
	return k.store.Get(ctx, key)
}
func (k storeKeeper) InUse(string) (string, error) { return "?", nil }

func (k storeKeeper) Forget(ctx context.Context, key string) error {
	// What is broken or lost is forgotten as well. In a file this locks the key, so that no source starts meanwhile.
	if _, err := k.store.Get(ctx, key); errors.Is(err, checkpoint.ErrNotFound) || errors.Is(err, checkpoint.ErrLocked) {
		return err
	}
	return checkpoint.Forget(ctx, k.store, key)
}

func (k storeKeeper) Put(ctx context.Context, key string, r checkpoint.Record) error {
	if _, err := k.store.Get(ctx, key); err != nil && !errors.Is(err, checkpoint.ErrNotFound) { // in a file this locks the key
		return err
	}
	return checkpoint.SaveRecord(ctx, k.store, key, r)
}

func (k storeKeeper) ForgetHistory(ctx context.Context, key string, r checkpoint.Record) (known bool, err error) {
	if _, err := k.store.Get(ctx, key); err != nil { // in a file this locks the key
		return false, err
	}
	for _, at := range []string{checkpoint.SchemaKey(key), checkpoint.OldSchemaKey(key)} { // an engine's cache deletes what is not there without a word
		_, err := k.store.Get(ctx, at)
		known = known || err == nil || errors.Is(err, checkpoint.ErrLost)
	}
	if !known && !r.History {
		return false, nil
	}
	if err = checkpoint.ForgetHistory(ctx, k.store, key); err == nil {
		r.History = false
		err = checkpoint.SaveRecord(ctx, k.store, key, r)
	}
	return known, err
}

// fileKeeper is the keeper of an embedded store.
type fileKeeper struct {
	storeKeeper
	file *checkpoint.SQLite
}

func newFileKeeper(s *checkpoint.SQLite) fileKeeper { return fileKeeper{storeKeeper{store: s}, s} }

func (k fileKeeper) Keys(ctx context.Context) ([]string, error) { return k.file.Keys(ctx) }
func (k fileKeeper) Peek(ctx context.Context, key string) ([]byte, error) {
	return k.file.Peek(ctx, key)
}

func (k fileKeeper) InUse(key string) (string, error) {
	used, err := k.file.InUse(key)
	return fmt.Sprint(used), err
}

// sinkKeeper is the keeper of a position that an output keeps. It has the place of the source beside the output.
type sinkKeeper struct {
	key    string
	ledger *exactly.Ledger
	sink   exactly.Sink
}

var _ exactly.Source = (*sinkKeeper)(nil)

// Prepare implements exactly.Source: there are no rows.
func (k *sinkKeeper) Prepare(*exactly.Mark) (exactly.Prepared, error) {
	return exactly.Prepared{}, nil
}

// Fenced implements exactly.Source.
func (k *sinkKeeper) Fenced(error) {}

func keysOf(key string) []string {
	return []string{key, checkpoint.SchemaKey(key), checkpoint.SnapshotKey(key)}
}

func (k *sinkKeeper) Keys(ctx context.Context) (keys []string, err error) {
	all := keysOf(k.key)
	values, err := k.sink.Load(ctx, all...)
	for i, v := range values {
		if v != nil {
			keys = append(keys, all[i])
		}
	}
	return keys, err
}

func (k *sinkKeeper) Peek(ctx context.Context, key string) ([]byte, error) {
	values, err := k.sink.Load(ctx, key)
	if err == nil && values[0] == nil {
		err = checkpoint.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

func (k *sinkKeeper) InUse(string) (string, error) { return "?", nil }

func (k *sinkKeeper) Forget(ctx context.Context, key string) error {
	return k.write(ctx, key, exactly.Record{Key: checkpoint.SchemaKey(key)}, exactly.Record{Key: checkpoint.SnapshotKey(key)}, exactly.Record{Key: key})
}

// Put implements keeper. The first position of a sink is written by the output.
func (k *sinkKeeper) Put(_ context.Context, key string, r checkpoint.Record) error {
	return fmt.Errorf("key %q: with exactly_once the output keeps the position, and takes no other: start without exactly_once from %s, stop when it has saved, and switch then", key, r.Token())
}

func (k *sinkKeeper) ForgetHistory(ctx context.Context, key string, r checkpoint.Record) (known bool, err error) {
	_, err = k.Peek(ctx, checkpoint.SchemaKey(key))
	if known = err == nil; !known && (!r.History || !errors.Is(err, checkpoint.ErrNotFound)) {
		return false, err
	}
	r.History, r.SavedAt = false, time.Now().UTC()
	value, err := r.Marshal()
	if err != nil {
		return known, err
	}
	return known, k.write(ctx, key, exactly.Record{Key: checkpoint.SchemaKey(key)}, exactly.Record{Key: key, Value: value})
}

// write writes records in one transaction of the sink, that of the position last.
func (k *sinkKeeper) write(ctx context.Context, key string, records ...exactly.Record) error {
	if key != k.key {
		return fmt.Errorf("key %q: %w", key, checkpoint.ErrNotFound)
	}
	values, err := k.sink.Load(ctx, key)
	if err != nil {
		return err
	}
	if values[0] == nil {
		return checkpoint.ErrNotFound
	}
	k.ledger.Know(values[0])
	return k.sink.Save(ctx, func(ctx context.Context) (*exactly.Tx, error) {
		return k.ledger.Begin(ctx, func() (exactly.Prepared, error) { return exactly.Prepared{Records: records, Saved: func() {}}, nil })
	})
}

// positionsTimeout bounds the whole work on the positions of a configuration.
const positionsTimeout = 2 * time.Minute

// configured calls f with the keeper of each source in a configuration.
type configured struct {
	f      func(ctx context.Context, key string, k keeper) error
	create bool // a file that is not there is made

	mu      sync.Mutex
	sources int   // guarded by mu, as is the other
	err     error // the first one
}

// withConfigured builds the inputs and the output of a configuration, with inputs in place of our sources that only look at their positions.
func withConfigured(ctx context.Context, file string, resources []string, f func(ctx context.Context, key string, k keeper) error) error {
	return (&configured{f: f}).run(ctx, file, resources)
}

func (c *configured) run(ctx context.Context, file string, resources []string) error {
	ctx, cancel := context.WithTimeout(ctx, positionsTimeout)
	defer cancel()
	env := service.GlobalEnvironment().Clone()
	for _, name := range []string{"deltaforge_mysql", "deltaforge_postgres"} {
		if err := env.RegisterBatchInput(name, service.NewConfigSpec().Fields(coordinator.Fields()...), c.input); err != nil {
			return err
		}
	}
	b := env.NewStreamBuilder()
	b.DisableLinting() // the fields of our own sources are not all known here
	b.SetLogger(slog.New(slog.DiscardHandler))
	for _, name := range resources {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := b.AddResourcesYAML(string(text)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := addParts(b, file); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	stream, err := b.Build()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	err = stream.Run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	case c.sources == 0:
		return fmt.Errorf("%s: no source of DeltaForge is in its input", file)
	}
	return nil
}

// addParts gives a stream the parts of a configuration that say where positions are.
func addParts(b *service.StreamBuilder, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var whole map[string]yaml.Node
	if err := yaml.Unmarshal(text, &whole); err != nil {
		return err
	}
	resources := map[string]yaml.Node{}
	for section, node := range whole {
		switch section {
		case "input", "output":
			part, err := yaml.Marshal(&node)
			if err != nil {
				return err
			}
			add := b.AddInputYAML
			if section == "output" {
				add = b.AddOutputYAML
			}
			if err := add(string(part)); err != nil {
				return err
			}
		case "cache_resources", "rate_limit_resources", "processor_resources", "output_resources", "input_resources":
			resources[section] = node
		}
	}
	if len(resources) > 0 {
		part, err := yaml.Marshal(resources)
		if err != nil {
			return err
		}
		if err := b.AddResourcesYAML(string(part)); err != nil {
			return err
		}
	}
	return b.SetMetricsYAML("none: {}") // the address of the run's own page is taken
}

// input makes the input that stands for a source.
func (c *configured) input(p *service.ParsedConfig, res *service.Resources) (service.BatchInput, error) {
	cfg, err := coordinator.ParseConfig(p)
	if err != nil {
		return nil, err
	}
	return &positionInput{c: c, cfg: cfg, res: res}, nil
}

type positionInput struct {
	c   *configured
	cfg coordinator.Config
	res *service.Resources
}

// Connect does the work and ends the input.
func (i *positionInput) Connect(ctx context.Context) error {
	err := i.work(ctx)
	i.c.mu.Lock()
	defer i.c.mu.Unlock()
	i.c.sources++
	if i.c.err == nil {
		i.c.err = err
	}
	return service.ErrEndOfInput
}

func (i *positionInput) work(ctx context.Context) (err error) {
	key := i.cfg.CheckpointKey
	switch {
	case i.cfg.ExactlyOnce:
		k := &sinkKeeper{key: key}
		k.ledger = exactly.NewLedger(key, k)
		pipeline := exactly.Of(i.res)
		if err := pipeline.Offer(k.ledger); err != nil {
			return err
		}
		defer pipeline.Withdraw(k.ledger)
		if k.sink, err = pipeline.Sink(ctx); err != nil {
			return err
		}
		return i.c.f(ctx, key, k)
	case i.cfg.CheckpointCache != "":
		return i.c.f(ctx, key, storeKeeper{checkpoint.FromCache(i.res, i.cfg.CheckpointCache), keysOf(key)})
	}
	open := checkpoint.OpenExistingSQLite
	if i.c.create {
		open = checkpoint.OpenSQLite
	}
	s, err := open(ctx, i.cfg.CheckpointPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return i.c.f(ctx, key, newFileKeeper(s))
}

// ReadBatch is not called: there is no connection.
func (i *positionInput) ReadBatch(context.Context) (service.MessageBatch, service.AckFunc, error) {
	return nil, nil, service.ErrEndOfInput
}

// Close implements service.BatchInput.
func (i *positionInput) Close(context.Context) error { return nil }

// belongs reports whether a key is that of a source, or of what belongs to its position.
func belongs(key, source string) bool { return slices.Contains(keysOf(source), key) }

const (
	configOfPositions = "config"
	resourcesOf       = "resources"
)

// positionFlags are the flags of the commands about positions.
func positionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: pathFlag, Aliases: []string{"p"}, Value: "deltaforge-checkpoints.db",
			Usage: "the file of the embedded store: `checkpoint.path` of the source",
		},
		&cli.StringFlag{
			Name: configOfPositions, Aliases: []string{"c"},
			Usage: "the configuration of the pipeline, in place of --path: its source says where the position is, in a file, in a cache or in the sink",
		},
		&cli.StringSliceFlag{
			Name: resourcesOf, Aliases: []string{"r"}, Usage: "a file of shared resources that the configuration refers to; may be repeated",
		},
	}
}
