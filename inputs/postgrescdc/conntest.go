package postgrescdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deltaforge/deltaforge/internal/coordinator"
)

var _ coordinator.Tester = (*replication)(nil)

// Test implements coordinator.Tester, by connections of its own. Whether another session reads from the slot is not looked
// at: it may be that of the pipeline which this configuration is to replace.
func (r *replication) Test(ctx context.Context) error {
	t := &replication{cfg: r.cfg, logger: silent{}, warned: map[string]bool{}, testing: true}
	conn, err := pgx.ConnectConfig(ctx, t.cfg.conn)
	if err != nil {
		return classifyConnect(err)
	}
	defer closeConn(ctx, conn)
	_, unmet := t.preflight(ctx, conn, "", Position{})
	missing, err := t.missingTables(ctx, conn)
	if err := errors.Join(unmet, missing, err); err != nil {
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

// missingTables names the tables of the configuration that the database does not have. For Run that is no error: a table
// may be made later.
func (r *replication) missingTables(ctx context.Context, conn *pgx.Conn) (missing, err error) {
	all, err := queryTables(ctx, conn)
	if err != nil {
		return nil, classify(err)
	}
	var errs []error
	for _, p := range r.cfg.filter.include {
		if strings.Contains(p.schema+p.table, "%") {
			continue
		}
		there := false
		for _, t := range all {
			there = there || t.schema == p.schema && t.name == p.table
		}
		if !there {
			errs = append(errs, fmt.Errorf("%s.%s: there is no table %s.%s: correct its name, or make it", fieldTables, fieldInclude,
				p.schema, p.table))
		}
	}
	return coordinator.WithKind(coordinator.KindSchema, errors.Join(errs...)), nil
}

// silent is the log of a test, whose caller gets all that there is to say.
type silent struct{}

func (silent) Infof(string, ...any) {}
func (silent) Warnf(string, ...any) {}
