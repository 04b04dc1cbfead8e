package chunk

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deltaforge/deltaforge/internal/fault"
	"github.com/deltaforge/deltaforge/internal/snapshot"
)

// The SQLSTATE codes that are told apart.
const (
	codeUndefinedTable  = "42P01"
	codeInvalidSchema   = "3F000"
	codePermission      = "42501"
	codeLockTimeout     = "55P03"
	codeQueryCanceled   = "57014"
	codeSerialization   = "40001"
	classSyntaxOrAccess = "42"
	classData           = "22"
)

// explain says what a failure means for a table.
func (r *reader) explain(table, where string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
	case pg.Code == codeUndefinedTable && where == "", pg.Code == codeInvalidSchema:
		err = snapshot.ErrGone
	case pg.Code == codePermission:
		err = fault.WithKind(fault.KindPermission, fmt.Errorf("%w: %s", err, grant(table, r.conn.Config().User)))
	case where != "" && (strings.HasPrefix(pg.Code, classSyntaxOrAccess) || strings.HasPrefix(pg.Code, classData)):
		err = fault.WithKind(fault.KindOther, fmt.Errorf("snapshot.where: %q is no condition for the rows of the table: %w", where, err))
	case pg.Code == codeLockTimeout:
		err = fmt.Errorf("the table is being altered, or somebody waits to alter it: %w", err)
	case pg.Code == codeSerialization, pg.Code == codeQueryCanceled && r.standby:
		err = fmt.Errorf("the standby has ended the query for the sake of what it replays: max_standby_streaming_delay gives queries more time: %w", err)
	default:
		err = classify(err)
	}
	return fault.WithTable(table, fmt.Errorf("%s: %w", table, err))
}

// grant is the statement that lets a role read a table.
func grant(table, role string) string {
	schema, name, _ := strings.Cut(table, ".")
	return "GRANT SELECT ON " + ident(schema) + "." + ident(name) + " TO " + ident(role)
}

// classify marks an error of the server with its kind.
func classify(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return err
	case strings.HasPrefix(pg.Code, "28"):
		return fault.WithKind(fault.KindAuth, err)
	case pg.Code == codePermission:
		return fault.WithKind(fault.KindPermission, err)
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57P"):
		return fault.WithKind(fault.KindConnect, err)
	default:
		return err
	}
}
