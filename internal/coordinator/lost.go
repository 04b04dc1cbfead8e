package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/checkpoint"
)

// A lost position: the log does not have what comes after it, or is another log.

// OnLost is what happens when a position is lost.
type OnLost string

// What can happen.
const (
	// LostFail has the source stop, and look now and then whether somebody has brought the position back.
	LostFail OnLost = "fail"
	// LostSnapshot has it begin anew at the end of the log, and load all tables again.
	LostSnapshot OnLost = "snapshot"
)

const (
	// lostBackoff is how often a source that has lost its position looks whether somebody has brought it back.
	lostBackoff = time.Minute
	// lostLooks is how often in a row a position must have been found lost before it is given up, and lostPause the time between: a server
	// that is late, such as one that has just taken over, gets there.
	lostLooks = 2
	lostPause = 3 * time.Second
)

// Renewer is implemented by a Log that can be read from a new beginning when its position is lost.
type Renewer interface {
	// Renew makes the server and the log ready for a Run with the zero token, which then starts at the end of the server's log whatever the
	// configuration says. What the log remembers of the old one is forgotten. It opens a connection of its own and closes it. No Run
	// is active, and no Confirm of an earlier position comes after it. Renew may be called again, also by another process after a
	// crash.
	Renew(ctx context.Context) error
}

func onLostField() *service.ConfigField {
	return service.NewStringEnumField(fieldOnLost, string(LostFail), string(LostSnapshot)).Default(string(LostFail)).
		Description("What happens when the log does not have what comes after the saved position, or is another log. `fail`: the source stops with " +
			"`position lost`, and a person decides. `snapshot`: it begins anew at the end of the log and loads all tables of `snapshot.tables` again, whatever " +
			"`snapshot.mode` says. Changes in between are lost; a row that was deleted in between stays at the consumers, because nothing tells that it was deleted.")
}

func parseOnLost(conf *service.ParsedConfig) (OnLost, error) {
	text, err := conf.FieldString(fieldOnLost)
	if o := OnLost(text); err != nil || o == LostFail || o == LostSnapshot {
		return o, err
	}
	return "", fmt.Errorf("%s: want %s or %s, got %q", fieldOnLost, LostFail, LostSnapshot, text)
}

// mayRenew reports whether the source begins anew when its position is lost.
func (i *Input) mayRenew() bool {
	_, ok := i.log.(Renewer)
	return ok && i.loader != nil && i.cfg.OnLost == LostSnapshot
}

// foundLost notes that the position was found lost. It returns when to look again, and what is said about it.
func (i *Input) foundLost(err error) (time.Duration, error) {
	i.lost, i.lostBy = i.lost+1, err
	switch {
	case i.mayRenew():
		return lostPause, err
	case i.loader != nil && i.saver != nil:
		return lostBackoff, fmt.Errorf("%w; or `%s: %s` begins anew at the end of the log, and loads all tables again", err, fieldOnLost, LostSnapshot)
	default:
		return lostBackoff, err
	}
}

// renewIfLost gives up a position that was found lost again and again, if that is wanted. The order makes it safe against a crash: the
// progress of snapshots, which says that everything is to be loaded, is saved before the new position is, and until then the old one is
// lost at the next start, too.
func (i *Input) renewIfLost(ctx context.Context) error {
	if i.lost < lostLooks || i.saver == nil || !i.mayRenew() {
		return nil
	}
	at := i.deliver.resume()
	from, era := at.token, at.era+1
	i.out.With("position", from.String(), "error", i.lostBy.Error()).Errorf("The position %s of %s is given up, as `%s: %s` says: %v", from, i.cfg.Name, fieldOnLost,
		LostSnapshot, i.lostBy)
	i.saver.turn(era)
	if err := i.log.(Renewer).Renew(ctx); err != nil {
		i.saver.turn(era - 1)
		return fmt.Errorf("beginning anew after a lost position: %w", err)
	}
	i.deliver.renew(era)
	i.loader.Renew(from.String(), i.lostBy.Error())
	i.lost = 0
	return nil
}

// renewUnsaved begins anew where no position is saved, and the server says that one is lost.
func (i *Input) renewUnsaved(ctx context.Context, nothing, trace string) error {
	i.out.Errorf("%s, though %s: what it had is given up, as `%s: %s` says", capital(nothing), trace, fieldOnLost, LostSnapshot)
	if err := i.log.(Renewer).Renew(ctx); err != nil {
		return fmt.Errorf("beginning anew after a lost position: %w", err)
	}
	i.lostBy = errors.New(trace)
	return nil
}

// tellRenewed says what a new beginning passes over.
func (i *Input) tellRenewed(at checkpoint.Token) {
	from := i.loader.Renewed(at.String())
	i.out.With("position", at.String()).Warnf("Reading of %s begins anew at %s: the changes between %s and there are lost. All tables are loaded again. Rows that were "+
		"deleted in between stay at the consumers: nothing tells which they are", i.cfg.Name, at, from)
}
