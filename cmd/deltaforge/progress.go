package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	contract "github.com/deltaforge/deltaforge/internal/plane"
)

const (
	// barEvery is how often the bar is drawn, and barSmooth the time over which its rate is measured, about.
	barEvery  = 500 * time.Millisecond
	barSmooth = 5 * time.Second
	barWidth  = 24

	// ECMA-48: to the beginning of the line, and clear it; DEC private mode 7 is line wrapping.
	barErase = "\r\x1b[K"
	noWrap   = "\x1b[?7l"
	wrap     = "\x1b[?7h"
)

// bar shows on a terminal how far the tables of a pipeline are loaded, below the lines of the log.
type bar struct {
	mu    sync.Mutex
	out   io.Writer
	shown bool // guarded by mu, as are all below

	seen map[string]bool // tables that were loading while the bar was there, by source and name
	rows float64
	rate float64   // rows a second; 0: not known yet
	at   time.Time // when that was
}

func newBar(out io.Writer) *bar { return &bar{out: out, seen: map[string]bool{}} }

// below returns what writes to the same terminal, with the bar below it.
func (b *bar) below(w io.Writer) io.Writer { return &aboveBar{b, w} }

type aboveBar struct {
	b *bar
	w io.Writer
}

// Write implements io.Writer.
func (a *aboveBar) Write(p []byte) (int, error) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.b.erase()
	return a.w.Write(p)
}

// erase takes the bar away until it is drawn again.
func (b *bar) erase() {
	if b.shown {
		b.shown = false
		_, _ = io.WriteString(b.out, barErase) // a terminal that is gone needs no bar
	}
}

// draw shows how the snapshots are.
func (b *bar) draw(sources map[string]contract.SnapshotStatus, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.line(sources, now)
	if text == "" {
		b.erase()
		return
	}
	b.shown = true
	_, _ = io.WriteString(b.out, barErase+noWrap+text+wrap)
}

// line returns the text of the bar; empty: nothing is loaded.
func (b *bar) line(sources map[string]contract.SnapshotStatus, now time.Time) string {
	var rows, of int64
	var open, all int
	name, problem, paused, known := "", "", false, true
	for source, s := range sources {
		for _, t := range s.Tables {
			key := source + " " + t.Table
			loading := t.State == "loading" || t.State == "waiting" || t.State == "pruning"
			if loading {
				b.seen[key] = true
				open++
				paused = paused || s.Paused
				name = t.Table
				if t.Problem != "" {
					problem = t.Table
				}
				known = known && t.Estimate > t.Rows // else there are more than the server took there to be
			}
			if b.seen[key] {
				all++
				rows += t.Rows
				if loading {
					of += max(t.Estimate, t.Rows)
				} else {
					of += t.Rows
				}
			}
		}
	}
	if open == 0 {
		clear(b.seen)
		b.at, b.rows, b.rate = time.Time{}, 0, 0
		return ""
	}
	b.measure(float64(rows), now)
	if all > 1 {
		name = fmt.Sprintf("%d of %d tables", all-open, all)
	}
	text := "Loading " + name + " "
	if known && of > 0 {
		ratio := min(float64(rows)/float64(of), 0.99)
		full := int(ratio * barWidth)
		text += fmt.Sprintf("[%s%s] %.0f %%  %d of about %d rows", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), ratio*100, rows, of)
	} else {
		text += fmt.Sprintf(" %d rows", rows)
	}
	switch {
	case paused:
		return text + "  paused"
	case problem != "":
		return text + "  " + problem + " has to wait, see the log"
	case b.rate < 1:
		return text
	}
	text += fmt.Sprintf("  %.0f rows/s", b.rate)
	if known {
		left := time.Duration(float64(of-rows) / b.rate * float64(time.Second)).Round(time.Second)
		text += fmt.Sprintf("  about %s left", left)
	}
	return text
}

// measure notes how many rows are delivered.
func (b *bar) measure(rows float64, now time.Time) {
	took := now.Sub(b.at).Seconds()
	switch {
	case b.at.IsZero() || rows < b.rows: // a load has begun anew
		b.rate = 0
	case took <= 0:
		return
	case b.rate == 0 && rows > b.rows:
		b.rate = (rows - b.rows) / took
	default:
		weight := min(took/barSmooth.Seconds(), 1)
		b.rate += weight * ((rows-b.rows)/took - b.rate)
	}
	b.rows, b.at = rows, now
}

// asked returns how the snapshots of the sources are.
type asked interface {
	Snapshot(pipeline, source string, r contract.SnapshotRequest) (map[string]contract.SnapshotStatus, error)
}

// showProgress draws the bar in run mode, on a terminal, until ctx ends.
func (p *plane) showProgress(ctx context.Context) {
	if p.bar == nil || p.sources == nil {
		return
	}
	v, _ := p.sources.GetGeneric(contract.Key)
	sources, ok := v.(asked)
	if !ok {
		return
	}
	go p.goOn("progress bar", func() {
		ticker := time.NewTicker(barEvery)
		defer ticker.Stop()
		for {
			select {
			case now := <-ticker.C:
				all, _ := sources.Snapshot(p.pipeline, "", contract.SnapshotRequest{}) // nothing is asked for that could be wrong
				p.bar.draw(all, now)
			case <-ctx.Done():
				p.bar.draw(nil, time.Now())
				return
			}
		}
	})
}

// barOn returns the bar of run mode; nil: there is none. It is on standard error, if that is a terminal on which no rows are printed.
func barOn(out io.Writer) *bar {
	if !isTerminal(os.Stderr) || out == os.Stderr && isTerminal(os.Stdout) {
		return nil
	}
	return newBar(os.Stderr)
}
