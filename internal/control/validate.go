package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/advice"
	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/control/internal/trial"
	"github.com/deltaforge/deltaforge/internal/redact"
)

// CheckMain returns what is wrong with the configuration of run mode: it is linted, and the components of its pipeline are built.
func (s *Server) CheckMain(ctx context.Context, config []byte, chilled bool) error {
	return s.checker.Main(ctx, config, chilled, nil)
}

// FileReport is what ValidateFile has found besides an error.
type FileReport struct {
	Advice      []string // what gives up a guarantee of a source
	Connections []FileConnection
}

// FileConnection is the outcome of the test of one connection.
type FileConnection struct {
	Component string
	Status    string // connected, failed, unsupported
}

// ValidateFile checks the configuration of a run or of a stream without a process around it: it is linted, its components are built,
// and if connect is true their connections are tested. The error says everything that is wrong.
func ValidateFile(ctx context.Context, config []byte, connect bool) (r FileReport, err error) {
	res := service.MockResources()
	c := trial.New(res, trial.Witness{Panicked: account.New(res.Metrics(), nil).Panicked, Log: res.Logger()})
	config = document.StreamConfig(config)
	if found, err := advice.Of(config); err == nil {
		for _, f := range found {
			r.Advice = append(r.Advice, redact.Text(f.String()))
		}
	}
	var results []trial.Result
	var tested *[]trial.Result
	if connect {
		tested = &results
	}
	err = c.Main(ctx, config, false, tested)
	for _, one := range results {
		r.Connections = append(r.Connections, FileConnection{one.Component, one.Status})
		if one.Status == "failed" {
			err = errors.Join(err, fmt.Errorf("%s: %s", one.Component, one.Error))
		}
	}
	if err != nil {
		err = errors.New(redact.Text(err.Error()))
	}
	return r, err
}

// validateTimeout bounds the connection tests of one configuration.
const validateTimeout = 20 * time.Second

// validation is the answer of /validate.
type validation struct {
	Valid       bool           `json:"valid"`
	LintErrors  []string       `json:"lint_errors,omitempty"`
	Warnings    []string       `json:"warnings,omitempty"` // what gives up a guarantee of the source
	Error       string         `json:"error,omitempty"`
	Connections []trial.Result `json:"connections,omitempty"`
}

func (s *Server) validate(r *http.Request, body []byte) *reply {
	ctx, cancel := context.WithTimeout(r.Context(), validateTimeout)
	defer cancel()
	v := validation{Valid: true}
	var err error
	v.LintErrors, err = s.checker.Lint(ctx, body)
	if found, bad := advice.Of(body); err == nil && bad == nil {
		for _, f := range found {
			v.Warnings = append(v.Warnings, f.String())
		}
	}
	if err == nil && len(v.LintErrors) == 0 {
		err = s.checker.Build(ctx, document.QuoteSecrets(body), &v.Connections)
	}
	if err != nil {
		v.Error = redact.Text(document.Shown(body, err.Error()))
	}
	v.Valid = err == nil && len(v.LintErrors) == 0
	for _, c := range v.Connections {
		v.Valid = v.Valid && c.Status != "failed"
	}
	for i := range v.LintErrors {
		v.LintErrors[i] = redact.Text(v.LintErrors[i])
	}
	if !v.Valid {
		return jsonReply(http.StatusBadRequest, v)
	}
	return jsonReply(http.StatusOK, v)
}
