package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/catalog"
	"github.com/deltaforge/deltaforge/internal/coordinator"
	"github.com/deltaforge/deltaforge/internal/fault"
)

var _ coordinator.Tester = (*replication)(nil)

// Test implements coordinator.Tester, by connections of its own. Whether another session reads from the slot is not looked
// at: it may be that of the pipeline which this configuration is to replace.
func (r *replication) Test(ctx context.Context) error {
	t := &replication{cfg: r.cfg, logger: silent{}, warned: map[string]bool{}, testing: true}
	conn, err := t.cfg.connect(ctx)
	if err != nil {
		return classifyConnect(err)
	}
	defer catalog.Close(ctx, conn)
	have, unmet := t.preflight(ctx, conn, "", Position{})
	if err := errors.Join(unmet, t.unmatched(have)); err != nil {
		return err
	}
	repl, _, err := t.connectReplication(ctx)
	if err != nil {
		return err
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := repl.Close(closing); err != nil {
		return classify(fmt.Errorf("closing the replication connection: %w", err))
	}
	return nil
}

// unmatched names the patterns of the configuration that capture no table. For Run that is no error: a table may be made later.
func (r *replication) unmatched(have *preconditions) error {
	if have == nil || have.state == nil {
		return nil
	}
	var errs []error
	for _, text := range r.cfg.filter.Unmatched(have.state.Tables) {
		errs = append(errs, fmt.Errorf("%s.%s: %s", fieldTables, fieldInclude, text))
	}
	return fault.WithKind(fault.KindSchema, errors.Join(errs...))
}

// silent is the log of a test, whose caller gets all that there is to say.
type silent struct{}

func (silent) Infof(string, ...any) {}
func (silent) Warnf(string, ...any) {}
