package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logs keeps what is logged.
type logs struct {
	mu    sync.Mutex
	lines []string
	said  chan struct{}
}

func newLogs() *logs { return &logs{said: make(chan struct{}, 100)} }

func (l *logs) add(level, template string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, level+" "+fmt.Sprintf(template, args...))
	l.said <- struct{}{}
}

func (l *logs) Warnf(template string, args ...any) { l.add("warn", template, args...) }
func (l *logs) Infof(template string, args ...any) { l.add("info", template, args...) }

func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

// answer is what a registry answers, the first for the first request.
type answer struct {
	status int
	body   string
}

const notThere = `{"error_code":40401,"message":"Subject 'x' not found."}`

// serve answers in order, the last for ever, and returns what it was asked.
func serve(t *testing.T, answers ...answer) (*httptest.Server, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		a := answers[min(len(asked), len(answers)-1)]
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(s.Close)
	return s, func() []string { mu.Lock(); defer mu.Unlock(); return asked }
}

func client(t *testing.T, conf Config) *Client {
	t.Helper()
	if conf.Log == nil {
		conf.Log = newLogs()
	}
	c, err := New(conf)
	require.NoError(t, err)
	return c
}

func schema() Schema { return Schema{Subject: "x-value", Text: `{"type":"int"}`} }

func TestRegisteredOnce(t *testing.T) {
	s, asked := serve(t, answer{404, notThere}, answer{200, `{"id":7}`})
	c := client(t, Config{URLs: []string{s.URL}, Username: "u", Password: "p", Register: true})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			id, err := c.ID(t.Context(), schema())
			assert.NoError(t, err)
			assert.Equal(t, 7, id)
		})
	}
	wg.Wait()
	auth := " Basic " + base64.StdEncoding.EncodeToString([]byte("u:p")) + " "
	assert.Equal(t, []string{
		"POST /subjects/x-value" + auth + `{"schema":"{\"type\":\"int\"}"}`,
		"POST /subjects/x-value/versions" + auth + `{"schema":"{\"type\":\"int\"}"}`,
	}, asked())
}

// The newest schema of a subject is asked for each time, and a subject without one has none.
func TestLatest(t *testing.T) {
	s, asked := serve(t, answer{404, notThere}, answer{503, "busy"}, answer{200, `{"id":7,"version":3,"subject":"x-value","schema":"message M {}","schemaType":"PROTOBUF"}`})
	c := client(t, Config{URLs: []string{s.URL}})
	for _, want := range []struct {
		id   int
		text string
	}{{0, ""}, {7, "message M {}"}} {
		id, text, err := c.Latest(t.Context(), "x-value")
		require.NoError(t, err)
		assert.Equal(t, want.id, id)
		assert.Equal(t, want.text, text)
	}
	assert.Equal(t, slices.Repeat([]string{"GET /subjects/x-value/versions/latest  "}, 3), asked())
	s, _ = serve(t, answer{403, `{"error_code":40301,"message":"Forbidden"}`})
	_, _, err := client(t, Config{URLs: []string{s.URL}}).Latest(t.Context(), "x-value")
	require.EqualError(t, err, "subject x-value of the schema registry at "+s.URL+": it answers 403: Forbidden; check registry.basic_auth, registry.bearer_token, and what that user may do")
}

func TestKnownIsNotRegistered(t *testing.T) {
	s, asked := serve(t, answer{200, `{"subject":"x-value","version":3,"id":9,"schema":"{}"}`})
	id, err := client(t, Config{URLs: []string{s.URL}, Bearer: "token", Register: true}).ID(t.Context(), Schema{Subject: "x-value", Text: "{}", Type: JSONSchema})
	require.NoError(t, err)
	assert.Equal(t, 9, id)
	assert.Equal(t, []string{`POST /subjects/x-value Bearer token {"schema":"{}","schemaType":"JSON"}`}, asked())
}

// A refusal has the registry's own words, the subject, and the way out; nothing of it is a secret.
func TestRefusals(t *testing.T) {
	incompatible, err := json.Marshal(map[string]any{"error_code": 409, "message": "Schema being registered is incompatible: reader field missing default"})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		answers []answer
		want    string
	}{
		"incompatible": {[]answer{{404, notThere}, {409, string(incompatible)}}, "it answers 409: Schema being registered is incompatible: reader field missing default; change the " +
			"compatibility of the subject (PUT /config/<subject>), or let it start anew (DELETE /subjects/<subject>): DeltaForge goes on by itself"},
		"invalid":         {[]answer{{404, notThere}, {422, `{"error_code":42201,"message":"Input schema is an invalid Avro schema"}`}}, "it answers 422: Input schema is an invalid Avro schema"},
		"not allowed":     {[]answer{{401, `{"error_code":40101,"message":"User cannot access"}`}}, "it answers 401: User cannot access; check registry.basic_auth, registry.bearer_token, and what that user may do"},
		"not a registry":  {[]answer{{404, "<html>nothing here</html>"}}, "it answers 404: <html>nothing here</html>; is registry.urls the address of a registry with Confluent's API? Apicurio has it below /apis/ccompat/v7"},
		"nonsense":        {[]answer{{200, "{}"}}, "the answer has no schema id: is registry.urls the address of a registry with Confluent's API? Apicurio has it below /apis/ccompat/v7"},
		"a long answer":   {[]answer{{400, strings.Repeat("é", 600)}}, "it answers 400: " + strings.Repeat("é", 500) + " …"},
		"no registration": {[]answer{{404, notThere}}, `it does not have this schema, and registry.register is false: register it, {"type":"int"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, c.answers...)
			_, err := client(t, Config{URLs: []string{s.URL}, Username: "u", Password: "hunter2", Register: name != "no registration"}).ID(t.Context(), schema())
			require.EqualError(t, err, "subject x-value of the schema registry at "+s.URL+": "+c.want)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
	t.Run("not JSON", func(t *testing.T) {
		s, _ := serve(t, answer{200, "<html>welcome</html>"})
		_, err := client(t, Config{URLs: []string{s.URL}, Register: true}).ID(t.Context(), schema())
		require.ErrorContains(t, err, "subject x-value of the schema registry at "+s.URL+": ")
	})
}

// A registry that is away is waited for, and told about once.
func TestAway(t *testing.T) {
	var up atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error_code":50003,"message":"Error while forwarding the request"}`)
			return
		}
		_, _ = io.WriteString(w, `{"id":5}`)
	}))
	defer s.Close()
	log := newLogs()
	c := client(t, Config{URLs: []string{s.URL}, Register: true, Log: log})
	got := make(chan int)
	go func() {
		id, err := c.ID(t.Context(), schema())
		assert.NoError(t, err)
		got <- id
	}()
	<-log.said
	up.Store(true)
	assert.Equal(t, 5, <-got)
	assert.Equal(t, []string{
		"warn Waiting for the schema registry at " + s.URL + ", for subject x-value: it answers 503: Error while forwarding the request",
		"info The schema registry answers again",
	}, log.all())
}

// Who waits can leave, and so can those that wait for the same schema.
func TestLeave(t *testing.T) {
	s, _ := serve(t, answer{503, ""})
	log := newLogs()
	c := client(t, Config{URLs: []string{s.URL}, Register: true, Log: log})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 2 {
		go func() { _, err := c.ID(ctx, schema()); errs <- err }()
	}
	<-log.said
	cancel()
	for range 2 {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
}

// Of several addresses, the next is asked where one is away.
func TestSeveral(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	s, _ := serve(t, answer{200, `{"id":3}`})
	id, err := client(t, Config{URLs: []string{gone.URL, s.URL}, Register: true}).ID(t.Context(), schema())
	require.NoError(t, err)
	assert.Equal(t, 3, id)
}
