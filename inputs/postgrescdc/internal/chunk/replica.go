package chunk

import (
	"context"
	"errors"

	"github.com/deltaforge/deltaforge/inputs/postgrescdc/internal/lsn"
)

// lastView is the newest view of a replica.
type lastView struct {
	server string
	high   lsn.LSN
}

func (r *reader) checkReplica(ctx context.Context) error { return errors.New("not yet") }

func (r *reader) waitReplay(ctx context.Context, name string, passed lsn.LSN) (lsn.LSN, error) {
	return 0, errors.New("not yet")
}

func (r *reader) highOfReplica(ctx context.Context) (lsn.LSN, error) { return 0, errors.New("not yet") }
