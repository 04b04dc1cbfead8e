package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/deltaforge/deltaforge/internal/plane"
)

// What a person can ask for. An error says what is wrong with the request.

// Start loads tables anew: those with the given full names or patterns; none: all that are chosen. Where is a condition for all of them; empty: that of the
// configuration.
func (l *Loader) Start(tables []string, where string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start(tables, where)
}

func (l *Loader) start(tables []string, where string) ([]string, error) {
	if !l.listed {
		return nil, errors.New("the source has not listed its tables yet: try again when it is connected")
	}
	var names []string
	for name := range l.tables {
		if len(tables) == 0 && l.chosen(name) {
			names = append(names, name)
		}
	}
	for _, p := range tables {
		before := len(names)
		for name := range l.tables {
			if match(p, name) {
				names = append(names, name)
			}
		}
		if len(names) == before {
			return nil, fmt.Errorf("no captured table is called %s: `tables.include` of the source says which are captured", p)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		w := where
		if w == "" {
			w = l.cfg.Where[name]
		}
		l.begin(l.newLoad(l.tables[name], w))
	}
	l.look()
	return names, nil
}

// Pause lets no further chunk be read, until Resume.
func (l *Loader) Pause() { l.locked(func() { l.pause(true) }) }

// Resume ends a Pause.
func (l *Loader) Resume() { l.locked(func() { l.pause(false) }) }

func (l *Loader) locked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *Loader) pause(paused bool) {
	if l.rec.Paused != paused {
		l.rec.Paused = paused
		l.touch()
	}
	if paused && l.join != nil {
		l.join.untrackIdle()
	}
	l.changed()
}

// Stop ends the loads of tables, with the given full names or patterns; none: all. It returns those that it has ended.
func (l *Loader) Stop(tables []string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stop(tables)
}

func (l *Loader) stop(tables []string) ([]string, error) {
	var names []string
	for _, d := range l.rec.Loads {
		if d.State.open() && (len(tables) == 0 || slices.ContainsFunc(tables, func(p string) bool { return match(p, d.Table) })) {
			d.State, d.Ended, d.Again = Stopped, time.Now().UTC(), nil
			names = append(names, d.Table)
			if l.join != nil {
				l.join.forget(d.Table)
			}
		}
	}
	if len(names) == 0 && len(tables) > 0 {
		return nil, fmt.Errorf("no load of %s is under way", strings.Join(tables, ", "))
	}
	if len(names) > 0 {
		l.touch()
	}
	l.look()
	return names, nil
}

// Request carries out what a person asks for, and returns how the loads are then.
func (l *Loader) Request(r plane.SnapshotRequest) (plane.SnapshotStatus, error) {
	var err error
	switch r.Action {
	case "":
	case "start":
		_, err = l.Start(r.Tables, r.Where)
	case "stop":
		_, err = l.Stop(r.Tables)
	case "pause":
		l.Pause()
	case "resume":
		l.Resume()
	default:
		err = fmt.Errorf("action: want start, pause, resume or stop, got %q", r.Action)
	}
	return l.Status(), err
}

// Status returns how the loads are, sorted by table. Tables that are only known are left out.
func (l *Loader) Status() plane.SnapshotStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rec.status(time.Now())
}

func (r *record) status(now time.Time) plane.SnapshotStatus {
	s := plane.SnapshotStatus{Paused: r.Paused, Tables: []plane.TableSnapshot{}, Lost: r.Lost}
	for _, d := range r.Loads {
		if d.State == Skipped {
			continue
		}
		end := d.Ended
		if end.IsZero() {
			end = now
		}
		s.Tables = append(s.Tables, plane.TableSnapshot{
			Table: d.Table, State: string(d.State), Rows: d.Rows, Estimate: d.Estimate, Ratio: d.ratio(), Seconds: max(0, end.Sub(d.Began).Seconds()), Problem: d.Problem,
		})
	}
	return s
}

// ReadStatus returns what a saved record says.
func ReadStatus(saved []byte) (plane.SnapshotStatus, error) {
	r, err := parseRecord(saved)
	if err != nil {
		return plane.SnapshotStatus{}, err
	}
	return r.status(time.Now()), nil
}
