package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/deltaforge/deltaforge/internal/guard"
)

// shopClosed waits for the end of the transaction that the shop is in.
func (d *demo) shopClosed(ctx context.Context) error {
	select {
	case <-d.shop.closed:
		return d.crew.failure()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errUndelivered is the reason when events are missing at the end.
var errUndelivered = errors.New("not everything was delivered")

// await waits until reached says so. It gives up when nothing has been received for stopLimit.
func (d *demo) await(ctx context.Context, reached func() (bool, error)) error {
	last, moved := -1, time.Now()
	for {
		if ok, err := reached(); ok || err != nil {
			return err
		}
		if records, _, _ := d.broker.received(); records != last {
			last, moved = records, time.Now()
		} else if time.Since(moved) > stopLimit {
			return errUndelivered
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-d.crew.failed:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// compare prints the summary, with the verdict.
func (d *demo) compare(ctx context.Context, written tally, rolledBack int) error {
	tables, err := d.database.contents(ctx)
	if err != nil {
		return err
	}
	_, received, _ := d.broker.received()
	s := d.screen
	s.summary([]string{tableCustomers, tableOrders}, written, received)
	if diffs := d.broker.compare(written, tables); len(diffs) > 0 {
		s.printf("%s\n", s.style(red, "The events are not what was written:"))
		for _, diff := range diffs {
			s.printf("  - %s\n", diff)
		}
		return ErrDiffer
	}
	s.printf("%s\n", s.style(green, "Nothing was lost, nothing came twice, nothing came out of order."))
	s.printf("Replaying the events by key gives exactly the %s customers and %s orders that the tables hold.\n",
		thousands(len(tables[tableCustomers])), thousands(len(tables[tableOrders])))
	s.printf("Nothing was seen of %s transactions that were rolled back.\n", thousands(rolledBack))
	return nil
}

// stopStream lets the stream finish what it holds. It may be called again.
func (d *demo) stopStream(limit time.Duration) error {
	if !d.streaming {
		return nil
	}
	d.streaming = false
	if err := d.stream.StopWithin(limit); err != nil {
		return fmt.Errorf("stopping the stream: %w", err)
	}
	return nil
}

// cleanUp ends everything that was started, waits until it has ended, and removes the directory. The context of the goroutines
// has been cancelled before.
func (d *demo) cleanUp(ctx context.Context, limit time.Duration) error {
	var errs []error
	// An abort does not care how the stream ends.
	if err := d.stopStream(limit); err != nil && limit != abortLimit {
		errs = append(errs, err)
	}
	if d.broker != nil {
		d.broker.close()
	}
	if d.page != nil {
		d.page.close()
	}
	d.crew.wait(limit)
	if d.shop != nil {
		// The connection is gone when its last statement was cancelled.
		_ = d.shop.close()
	}
	if d.database != nil {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		errs = append(errs, d.database.close(ctx))
	}
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	return errors.Join(append(errs, d.removeDir())...)
}

// removeDir removes the directory, in which children of a killed server may still make files for a moment.
func (d *demo) removeDir() error {
	if d.dir == "" {
		return nil
	}
	var err error
	for range 40 {
		if err = os.RemoveAll(d.dir); err == nil {
			return nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return fmt.Errorf("removing the demo's files: %w", err)
}

// showLogs prints the ends of the logs, which are about to be removed.
func (d *demo) showLogs() {
	for _, path := range []string{d.engineLog(), filepath.Join(d.databaseDir(), "server.log")} {
		text, err := tail(path, 2000)
		if err != nil || len(text) == 0 {
			continue
		}
		d.screen.endStatus()
		d.screen.printf("\n%s\n%s\n", d.screen.style(bold, "The end of "+filepath.Base(path)+":"), indent(string(text)))
	}
}

// tail returns the last lines of a file, at most size bytes.
func tail(path string, size int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(max(0, info.Size()-size), io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	if err == nil && info.Size() > size {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text, err
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

// crew are the goroutines of a demo. A panic in one is its error.
type crew struct {
	group  *sync.WaitGroup
	failed chan error // the first error
}

func newCrew() crew { return crew{group: &sync.WaitGroup{}, failed: make(chan error, 1)} }

func (c crew) start(f func() error) {
	c.group.Go(func() {
		if err := guarded(f); err != nil {
			select {
			case c.failed <- err:
			default:
			}
		}
	})
}

// guarded calls f. A panic in it is an error with its stack.
func guarded(f func() error) error {
	err := guard.Do("demo", nil, nil, f)
	if p, ok := errors.AsType[*guard.Panic](err); ok {
		return fmt.Errorf("panic: %v\n%s", p.Value, p.Stack)
	}
	return err
}

// failure returns the error of one that has failed.
func (c crew) failure() error {
	select {
	case err := <-c.failed:
		return err
	default:
		return nil
	}
}

// wait waits until all have ended, or the limit is over: what hangs is left to the end of the process.
func (c crew) wait(limit time.Duration) {
	done := make(chan struct{})
	go guarded(func() error { //nolint:errcheck // it has none
		defer close(done)
		c.group.Wait()
		return nil
	})
	select {
	case <-done:
	case <-time.After(limit):
	}
}
