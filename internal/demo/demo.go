// Package demo is `deltaforge demo`: a private database with a small shop that is open for business, a Kafka inside this
// process, and the real pipeline between them, with proof at the end that every row arrived.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Options are the flags of the command.
type Options struct {
	// MySQL runs the shop on a MySQL, or a MariaDB, instead of PostgreSQL.
	MySQL bool
	// For ends the demo by itself. 0: it goes on until it is stopped.
	For time.Duration
	// Rate is how many rows a second the shop writes, at least 1.
	Rate int
	// MetricsAddress is host:port. When the port is taken, another one is used.
	MetricsAddress string
	// Out is what the user sees. Terminal says that it understands escape sequences.
	Out      io.Writer
	Terminal bool
}

// ErrDiffer is returned when the events are not what was written.
var ErrDiffer = errors.New("the events differ from the tables")

const (
	// stallLimit is how long the stream may deliver nothing while rows wait.
	stallLimit = 30 * time.Second
	// rateWindow is the time that rates are averaged over.
	rateWindow = 3 * time.Second
	// maxUnread is how often in a row a busy machine may leave the metrics page unanswered.
	maxUnread = 5
	// stopLimit bounds each step of an orderly end, abortLimit that of an abort.
	stopLimit, abortLimit = 15 * time.Second, time.Second
)

// demo is one run. Its methods are called from one goroutine.
type demo struct {
	opts   Options
	screen *screen
	crew   crew

	dir      string
	log      *os.File // of the engine
	database *database
	shop     *shop
	broker   *broker
	stream   *service.Stream
	page     *page

	streaming bool          // the stream has been started
	closing   chan struct{} // closed when the shop has to close
	begin     time.Time     // when the shop opened
	seen      []sighting    // of the last rateWindow, oldest first
	moved     time.Time     // when something was delivered last
	unread    int           // times in a row that the metrics page did not answer
}

// sighting is what was seen at a tick.
type sighting struct {
	at                time.Time
	written, received int
}

// Run runs the demo until stop is closed, Options.For is over or something fails. It waits for what is on its way, prints a
// summary and removes everything that it made. The end of ctx aborts it, which removes everything as well.
func Run(ctx context.Context, stop <-chan struct{}, opts Options) error {
	if opts.Rate < 1 {
		return fmt.Errorf("the rate: want at least 1 row a second, got %d", opts.Rate)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &demo{
		opts: opts, screen: &screen{out: opts.Out, terminal: opts.Terminal}, crew: newCrew(), closing: make(chan struct{}),
	}
	err := d.run(ctx, stop)
	if err != nil && ctx.Err() == nil {
		d.showLogs()
	}
	limit := stopLimit
	if err != nil {
		limit = abortLimit
	}
	cancel()
	return errors.Join(err, d.cleanUp(context.WithoutCancel(ctx), limit), d.screen.finish())
}

func (d *demo) run(ctx context.Context, stop <-chan struct{}) error {
	starting, started := context.WithCancel(ctx)
	d.crew.start(func() error {
		select {
		case <-stop:
			started()
		case <-starting.Done():
		}
		return nil
	})
	err := d.setUp(starting)
	stopped := starting.Err() != nil && ctx.Err() == nil
	started()
	if stopped {
		d.screen.printf("Stopped before the shop opened.\n")
		return nil
	}
	if err != nil {
		return err
	}
	d.crew.start(func() error { return d.shop.run(ctx, d.closing) })
	if err := d.watch(ctx, stop); err != nil {
		return err
	}
	return d.settle(ctx)
}

// setUp starts everything but the shop, and says what it has started.
func (d *demo) setUp(ctx context.Context) error {
	s := d.screen
	address, err := metricsAddress(ctx, d.opts.MetricsAddress)
	if err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "deltaforge-demo-"); err != nil {
		return fmt.Errorf("making a directory for the demo: %w", err)
	}
	// A database that does not run as root has to get through to its own directory in there.
	if err := os.Chmod(d.dir, 0o711); err != nil { //nolint:gosec // nothing in it is readable by others
		return err
	}
	if d.log, err = os.OpenFile(d.engineLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	d.announce()
	if d.database, err = startDatabase(ctx, d.opts.MySQL, d.databaseDir()); err != nil {
		return err
	}
	if d.broker, err = startBroker(d.database.topics); err != nil {
		return err
	}
	yaml := streamYAML(d.database, d.broker.addr(), filepath.Join(d.dir, "checkpoints.db"), address)
	if d.stream, err = buildStream(yaml, d.log); err != nil {
		return err
	}
	d.page = newPage(address)
	s.printf("  %-18s%s, started for this demo\n", d.database.product, d.database.server.Addr())
	s.printf("  %-18s%s, inside this process\n", "Kafka", d.broker.addr())
	s.printf("  %-18s%s%s\n", "Metrics", s.style(bold, d.page.url), takenNote(d.opts.MetricsAddress, address))
	s.printf("  %-18s%s, removed at the end\n", "Files", d.dir)
	s.printf("\n%s\n\n%s\n", s.style(bold, "The stream, as a file that `deltaforge run` takes:"), indent(yaml))
	if d.shop, err = openShop(ctx, d.database, d.opts.Rate); err != nil {
		return err
	}
	if err := d.shop.stock(ctx); err != nil {
		return err
	}
	if err := d.startStream(ctx); err != nil {
		return err
	}
	if err := d.load(ctx); err != nil {
		return err
	}
	d.begin = time.Now()
	s.printf("The shop is open and writes %s rows a second. Ctrl-C closes it and compares both sides.\n", thousands(d.opts.Rate))
	return nil
}

func (d *demo) engineLog() string   { return filepath.Join(d.dir, "engine.log") }
func (d *demo) databaseDir() string { return filepath.Join(d.dir, "database") }

// announce says what is about to happen, which takes a few seconds.
func (d *demo) announce() {
	s := d.screen
	s.printf("%s\n\n", s.style(bold, "DeltaForge demo: every row that a small shop writes to its database arrives in Kafka."))
	if !d.opts.MySQL && needsFetch() {
		s.printf("  PostgreSQL is not installed here; one is fetched, once.\n")
	}
}

func takenNote(wanted, got string) string {
	if wanted == got || portOf(wanted) == "0" {
		return ""
	}
	return ", because " + wanted + " is taken"
}

// load waits until the rows are delivered that were there before the stream.
func (d *demo) load(ctx context.Context) error {
	began := time.Now()
	consuming := context.WithoutCancel(ctx) // it ends with the broker
	d.crew.start(func() error { return d.broker.consume(consuming) })
	stocked := d.shop.stocked()
	if err := d.await(ctx, func() (bool, error) {
		records, _, _ := d.broker.received()
		return records >= stocked.total(), nil
	}); err != nil {
		return fmt.Errorf("loading the rows that were there: %w", err)
	}
	d.screen.printf("The %s rows that were there are loaded, in %s.\n\n", thousands(stocked.total()), time.Since(began).Round(time.Millisecond))
	return nil
}

// startStream starts the stream and waits until it follows the log: what the shop wrote earlier would not be streamed.
func (d *demo) startStream(ctx context.Context) error {
	d.streaming = true
	// Not ended by ctx: Stop ends it, which lets it save its position.
	run := context.WithoutCancel(ctx)
	d.crew.start(func() error {
		if err := d.stream.Run(run); err != nil {
			return fmt.Errorf("running the stream: %w", err)
		}
		return nil
	})
	ctx, cancel := context.WithTimeoutCause(ctx, stallLimit, errors.New("the stream did not connect to the database in time"))
	defer cancel()
	for {
		if ok, err := d.database.followed(ctx); ok || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-d.crew.failed:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// watch shows the status until it is time to end.
func (d *demo) watch(ctx context.Context, stop <-chan struct{}) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var over <-chan time.Time
	if d.opts.For > 0 {
		timer := time.NewTimer(d.opts.For)
		defer timer.Stop()
		over = timer.C
	}
	stocked := d.shop.stocked().total()
	d.seen, d.moved = []sighting{{at: d.begin, written: stocked, received: stocked}}, d.begin
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-d.crew.failed:
			return err
		case <-stop:
			d.screen.interrupted()
			return nil
		case <-over:
			return nil
		case event := <-d.broker.first:
			d.screen.sample(event)
		case <-ticker.C:
			if err := d.tick(ctx); err != nil {
				return err
			}
		}
		if d.screen.err != nil {
			return nil // nobody is looking any more
		}
	}
}

// tick refreshes the status and fails when nothing moves.
func (d *demo) tick(ctx context.Context) error {
	st := status{elapsed: time.Since(d.begin)}
	st.written, _ = d.shop.written()
	var records int
	records, st.received, st.position = d.broker.received()
	if values, err := d.page.read(ctx); err == nil {
		st.lag, st.delivered = known(values, seriesLag), known(values, seriesDelivered)
		d.unread = 0
	} else if d.unread++; ctx.Err() == nil && d.unread > maxUnread {
		return err
	}
	now := sighting{at: time.Now(), written: st.written.total(), received: records}
	st.writeRate, st.getRate = d.rates(now)
	if newest := d.seen[len(d.seen)-1]; records != newest.received || records >= now.written {
		d.moved = now.at
	}
	d.seen = append(d.seen, now)
	d.screen.show(&st)
	if now.at.Sub(d.moved) > stallLimit {
		return fmt.Errorf("%d of %d rows were delivered, and for %s no more", records, now.written, stallLimit)
	}
	return nil
}

// rates returns rows and events a second, over the last rateWindow.
func (d *demo) rates(now sighting) (written, received float64) {
	for len(d.seen) > 1 && now.at.Sub(d.seen[1].at) >= rateWindow {
		d.seen = d.seen[1:]
	}
	since := now.at.Sub(d.seen[0].at).Seconds()
	return float64(now.written-d.seen[0].written) / since, float64(now.received-d.seen[0].received) / since
}

func known(values map[string]float64, name string) *float64 {
	if v, ok := values[name]; ok {
		return &v
	}
	return nil
}

// settle closes the shop, waits until everything is delivered, stops the stream and compares both sides.
func (d *demo) settle(ctx context.Context) error {
	close(d.closing)
	if err := d.shopClosed(ctx); err != nil {
		return err
	}
	written, rolledBack := d.shop.written()
	if records, _, _ := d.broker.received(); records < written.total() {
		d.screen.printf("\nThe shop is closed. Waiting for what is on its way; Ctrl-C aborts.\n\n")
	}
	undelivered := d.await(ctx, func() (bool, error) {
		records, _, _ := d.broker.received()
		return records >= written.total(), nil
	})
	if err := d.tick(ctx); err != nil && undelivered == nil {
		return err
	}
	d.screen.endStatus()
	if err := d.stopStream(stopLimit); err != nil {
		return err
	}
	// What came in surplus has to be seen too.
	if err := d.await(ctx, d.broker.atEnd); err != nil {
		return err
	}
	if err := d.compare(ctx, written, rolledBack); err != nil {
		return err
	}
	return undelivered
}
