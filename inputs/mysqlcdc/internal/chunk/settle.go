package chunk

import (
	"context"
	"errors"

	"github.com/deltaforge/deltaforge/inputs/mysqlcdc/internal/gtid"
)

type settler struct{}

func (r *reader) beginPlaces(ctx context.Context, v *view, after *gtid.Position) error {
	return errors.New("not yet")
}
