package snapshot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/deltaforge/deltaforge/internal/change"
)

// maxSignals is how many requests are remembered.
const maxSignals = 100

// signalData is the column data of a signal table.
type signalData struct {
	Collections []string `json:"data-collections"`
	Condition   string   `json:"additional-condition"`
	Conditions  []struct {
		Collection string `json:"data-collection"`
		Filter     string `json:"filter"`
	} `json:"additional-conditions"`
}

// signal is a row of the signal table.
type signal struct {
	ID      string            `json:"id"` // of its event
	Table   string            `json:"table"`
	Columns map[string]string `json:"columns"`
}

// signal carries out a request by the signal table; l.mu is held.
func (l *Loader) signal(ev *change.Event) {
	id := string(ev.AppendID(nil))
	if slices.Contains(l.rec.Signals, id) || slices.ContainsFunc(l.rec.Early, func(s signal) bool { return s.ID == id }) {
		return
	}
	s := signal{ID: id, Table: ev.Table.FullName(), Columns: map[string]string{}}
	for i, c := range ev.Table.Columns {
		if i < len(ev.After()) && ev.After()[i].Known() {
			s.Columns[strings.ToLower(c.Name)] = string(ev.After()[i].Bytes())
		}
	}
	l.touch()
	if !l.listed { // which tables there are is not known yet
		l.rec.Early = append(l.rec.Early, s)
		return
	}
	l.heed(s)
}

// heed carries out a signal, and remembers it.
func (l *Loader) heed(s signal) {
	if l.rec.Signals = append(l.rec.Signals, s.ID); len(l.rec.Signals) > maxSignals {
		l.rec.Signals = l.rec.Signals[len(l.rec.Signals)-maxSignals:]
	}
	said, err := l.carryOut(s.Columns)
	out := l.out.With("table", s.Table, "event_id", s.ID)
	if err != nil {
		out.With("error", err.Error()).Warnf("A signal of %s is not carried out: %s", s.Table, err)
		return
	}
	out.Infof("Signal of %s: %s", s.Table, said)
}

// heedEarly carries out the signals that came before the tables were listed.
func (l *Loader) heedEarly() {
	early := l.rec.Early
	l.rec.Early = nil
	for _, s := range early {
		l.heed(s)
	}
}

func (l *Loader) carryOut(text map[string]string) (string, error) {
	if _, ok := text["type"]; !ok {
		return "", fmt.Errorf("want the columns id, type and data")
	}
	var d signalData
	if data := text["data"]; data != "" {
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			return "", fmt.Errorf(`the column data: %w: want a JSON object such as {"data-collections": ["shop.orders"]}`, err)
		}
	}
	switch kind := text["type"]; kind {
	case "execute-snapshot":
		if len(d.Collections) == 0 {
			return "", fmt.Errorf(`the column data: want the tables, as in {"data-collections": ["shop.orders"]}`)
		}
		return l.execute(&d)
	case "stop-snapshot":
		names, err := l.stop(l.known(d.Collections))
		return "stopped the snapshot of " + strings.Join(names, ", "), err
	case "pause-snapshot":
		l.pause(true)
		return "snapshots are paused", nil
	case "resume-snapshot":
		l.pause(false)
		return "snapshots go on", nil
	default:
		return "", fmt.Errorf("the type %q: want execute-snapshot, stop-snapshot, pause-snapshot or resume-snapshot", kind)
	}
}

func (l *Loader) execute(d *signalData) (string, error) {
	conditions := map[string]string{}
	for _, c := range d.Conditions {
		conditions[l.short(c.Collection)] = c.Filter
	}
	var all []string
	for _, c := range l.known(d.Collections) {
		where := d.Condition
		if f, ok := conditions[c]; ok {
			where = f
		}
		names, err := l.start([]string{c}, where)
		if err != nil {
			return "", err
		}
		all = append(all, names...)
	}
	return "loading " + strings.Join(all, ", "), nil
}

// known makes names as other tools write them ours: with the database before a schema, and with dots that are escaped.
func (l *Loader) known(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = l.short(n)
	}
	return out
}

func (l *Loader) short(name string) string {
	name = strings.NewReplacer(`\.`, ".", `"`, "").Replace(name)
	if container, all := strings.CutSuffix(name, ".*"); all && !strings.Contains(container, ".") {
		return container + ".%"
	}
	name = strings.ReplaceAll(name, ".*", "%")
	if _, ok := l.tables[name]; ok {
		return name
	}
	if _, rest, ok := strings.Cut(name, "."); ok && strings.Contains(rest, ".") {
		return rest
	}
	return name
}
