package control

import (
	"context"
	"net/http"

	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/internal/trial"
)

// planChecker checks configurations, and refuses with the answer that the caller gets.
type planChecker struct{ trial.Checker }

// check refuses a configuration that does not parse, does not lint (unless chilled), or whose components cannot be
// built.
func (c planChecker) check(ctx context.Context, config []byte, chilled bool) error {
	if err := c.read(ctx, config, chilled); err != nil {
		return err
	}
	if err := c.Build(ctx, document.QuoteSecrets(config), nil); err != nil {
		return refusef(http.StatusBadRequest, "%s", document.Shown(config, err.Error()))
	}
	return nil
}

// read refuses a configuration that does not parse or does not lint (unless chilled).
func (c planChecker) read(ctx context.Context, config []byte, chilled bool) error {
	lints, err := c.Lint(ctx, config)
	if err != nil {
		return refusef(http.StatusBadRequest, "%s", document.Shown(config, err.Error()))
	}
	if len(lints) > 0 && !chilled {
		return lintRefusal(lints)
	}
	return nil
}
