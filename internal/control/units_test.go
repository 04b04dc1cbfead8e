package control

import (
	"encoding/json"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/deltaforge/deltaforge/internal/control/internal/account"
	"github.com/deltaforge/deltaforge/internal/control/internal/sources"
	contract "github.com/deltaforge/deltaforge/internal/plane"
)

// In run mode there is one pipeline, without a name as far as the engine knows.
func TestSingle(t *testing.T) {
	res := service.MockResources()
	s, err := NewSingle(SingleOptions{Pipeline: "orders", SourceType: "test_source", Interval: time.Millisecond, Resources: res})
	require.NoError(t, err)
	var down atomic.Bool
	require.NoError(t, s.StartSingle(t.Context(), func() []service.ConnectionStatus {
		if down.Load() {
			return make([]service.ConnectionStatus, 1)
		}
		return nil
	}))
	defer func() { assert.NoError(t, s.Close(t.Context())) }()
	ask := func(path string) (int, answerOf) {
		for _, rt := range s.routes() {
			if rt.path == path {
				w := serveOnce(s, rt)
				var a answerOf
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
				return w.Code, a
			}
		}
		return 0, answerOf{}
	}
	v, _ := res.GetGeneric(sources.Key)
	var failure atomic.Value
	failure.Store("")
	gate, detach := v.(*sources.Sources).Attach("", "shop", contract.Source{
		Report: func() contract.Report { return testReport("tx7", 3, failure.Load().(string)) }, Withdraw: func() {},
	})
	paused, _ := gate()
	assert.False(t, paused)
	status, a := ask("/ready")
	assert.Equal(t, 200, status)
	lag := 3.0
	assert.Equal(t, []State{{Name: "orders", Status: "running", Source: "shop", Position: "tx7", LagSeconds: &lag}}, a.Pipelines)
	down.Store(true)
	status, _ = ask("/ready")
	assert.Equal(t, 503, status)
	status, _ = ask("/health")
	assert.Equal(t, 200, status)
	failure.Store("position lost")
	status, a = ask("/health")
	assert.Equal(t, 503, status)
	assert.Equal(t, []string{"orders"}, a.Failed)
	detach()
}

func TestPanicIsAnAnswer(t *testing.T) {
	s := &Server{opts: Options{}.withDefaults(), stats: account.New(service.MockResources().Metrics(), nil), log: service.MockResources().Logger()}
	rec := serveOnce(s, route{"GET", "/x", "", true, false, "", nil, nil})
	assert.Equal(t, 500, rec.Code)
	assert.JSONEq(t, `{"error":"internal error"}`, rec.Body.String())
}

func serveOnce(s *Server, rt route) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.account(rt.path, s.serve(rt)).ServeHTTP(w, httptest.NewRequest(rt.method, rt.path, nil)) //nolint:noctx // a test
	return w
}

// testReport is the word of a source.
func testReport(position string, lag float64, failure string) contract.Report {
	r := contract.Report{Position: position, LagSeconds: lag, LagBytes: -1, State: contract.Running}
	if failure != "" {
		r.State, r.Cause = contract.Failed, failure
	}
	return r
}
