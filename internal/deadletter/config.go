package deadletter

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// The fields.
const (
	FieldDeadLetter = "dead_letter"
	fieldPath       = "path"
	fieldCount      = "max_count"
	fieldBytes      = "max_bytes"
	fieldAge        = "max_age"
	fieldFull       = "when_full"
)

// DefaultPath is the file where no other one is named.
const DefaultPath = "deltaforge_dlq.db"

const (
	block      = "block"
	dropOldest = "drop_oldest"
)

// Config is where dead letters are kept, and how many.
type Config struct {
	Path string
	Limits
}

// Field returns the field `dead_letter` of an output.
func Field() *service.ConfigField {
	return service.NewObjectField(FieldDeadLetter, Fields()...).Optional().
		Description("Keeps the events that can never be delivered, with their error, in a file, and goes on without them: `dead_letter: {}` is enough. " +
			"`deltaforge dlq` lists, shows, replays and purges them. Without it such an event is refused, and the source delivers it again until it is accepted.")
}

// Fields returns the fields of dead letters. None has a default for the engine: with one, `dead_letter` would be there where nobody has
// written it.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(fieldPath).Optional().
			Description("The file; `" + DefaultPath + "` where it is not set. It is made when it is missing; its folder must exist. Only the owner can read it: rows of tables are in it. Pipelines may share it."),
		service.NewIntField(fieldCount).Optional().LintRule(`root = if this < 0 { "must be 0 or more" }`).
			Description("The most entries of this pipeline; 100000 where it is not set. 0: no bound."),
		service.NewIntField(fieldBytes).Optional().LintRule(`root = if this < 0 { "must be 0 or more" }`).
			Description("The most bytes of this pipeline; 1073741824 where it is not set. 0: no bound."),
		service.NewDurationField(fieldAge).Optional().
			Description("How long an entry is kept after its last failure. Older ones are dropped, and counted in `dead_letter_evicted_total`. Where it is not set, they are kept for ever.").
			Example("720h"),
		service.NewStringAnnotatedEnumField(fieldFull, map[string]string{
			block:      "The output waits, visibly, until there is room: nothing is lost, and nothing else is delivered.",
			dropOldest: "The oldest entries are dropped, and counted in `dead_letter_evicted_total`.",
		}).Optional().
			Description("What happens at `max_count` or `max_bytes`; `block` where it is not set."),
	}
}

// Parse reads the fields. Errors name them.
func Parse(p *service.ParsedConfig) (Config, error) {
	c := Config{Path: DefaultPath, Limits: Limits{Count: 100_000, Bytes: 1 << 30}}
	full := block
	for name, read := range map[string]func() error{
		fieldPath:  func() (err error) { c.Path, err = p.FieldString(fieldPath); return err },
		fieldCount: func() (err error) { c.Count, err = p.FieldInt(fieldCount); return err },
		fieldBytes: func() error { n, err := p.FieldInt(fieldBytes); c.Bytes = int64(n); return err },
		fieldAge:   func() (err error) { c.Age, err = p.FieldDuration(fieldAge); return err },
		fieldFull:  func() (err error) { full, err = p.FieldString(fieldFull); return err },
	} {
		if p.Contains(name) {
			if err := read(); err != nil {
				return c, err
			}
		}
	}
	c.DropOldest = full == dropOldest
	switch {
	case c.Path == "":
		return c, fmt.Errorf("%s: wants the name of a file, such as %s", fieldPath, DefaultPath)
	case c.Count < 0:
		return c, fmt.Errorf("%s: %d is below 0", fieldCount, c.Count)
	case c.Bytes < 0:
		return c, fmt.Errorf("%s: %d is below 0", fieldBytes, c.Bytes)
	case c.Age < 0 || c.Age > 0 && c.Age < time.Second:
		return c, fmt.Errorf("%s: %s is shorter than 1s", fieldAge, c.Age)
	case full != block && full != dropOldest:
		return c, fmt.Errorf("%s: %q is neither %s nor %s", fieldFull, full, block, dropOldest)
	}
	c.Path = filepath.Clean(c.Path)
	return c, nil
}

// Of returns the dead letters that the field `dead_letter` asks for, nil if it is not there.
func Of(p *service.ParsedConfig) (*Config, error) {
	if !p.Contains(FieldDeadLetter) {
		return nil, nil
	}
	c, err := Parse(p.Namespace(FieldDeadLetter))
	return &c, err
}
