// Package registry is the client of a schema registry with Confluent's API: it registers schemas, each once, and waits for a registry that
// is away.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// Type is the language of a schema.
type Type int

// The languages.
const (
	Avro Type = iota
	JSONSchema
	Protobuf
)

func (t Type) wire() sr.SchemaType {
	switch t {
	case JSONSchema:
		return sr.TypeJSON
	case Protobuf:
		return sr.TypeProtobuf
	default:
		return sr.TypeAvro
	}
}

// Schema is what is registered.
type Schema struct {
	Subject, Text string
	Type          Type
}

// Logger is told about a registry that is waited for.
type Logger interface {
	Warnf(template string, args ...any)
	Infof(template string, args ...any)
}

// Config says where the registry is, and how to speak to it.
type Config struct {
	URLs               []string
	Username, Password string
	Bearer             string
	TLS                *tls.Config // nil: none
	// Register: schemas that the registry does not have are registered. Else they are an error.
	Register bool
	Log      Logger
}

const (
	requestTimeout = 10 * time.Second
	retryMin       = 100 * time.Millisecond
	retryMax       = 5 * time.Second
	// patience is how long a registry that is away is waited for at a time. After it, the error is the caller's to report; the caller
	// tries again.
	patience = 30 * time.Second
	// most is how many bytes of an answer go into an error.
	most = 1000
)

// Client registers schemas. It may be used from any goroutine, starts none, and keeps no connection open.
type Client struct {
	conf Config
	sr   *sr.Client
	at   string

	mu      sync.Mutex
	schemas map[Schema]*registered // guarded by mu
}

// registered is a schema that is, or becomes, registered.
type registered struct {
	turn chan struct{} // holds a token while somebody asks the registry, and guards id
	id   int           // 0: not yet
}

// New returns a client. It does not connect.
func New(conf Config) (*Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf.TLS, DisableKeepAlives: true}
	opts := []sr.ClientOpt{
		sr.URLs(conf.URLs...), sr.UserAgent("deltaforge"),
		sr.HTTPClient(&http.Client{Transport: transport, Timeout: requestTimeout}),
	}
	if conf.Username != "" || conf.Password != "" {
		opts = append(opts, sr.BasicAuth(conf.Username, conf.Password))
	}
	if conf.Bearer != "" {
		opts = append(opts, sr.BearerToken(conf.Bearer))
	}
	client, err := sr.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return &Client{conf: conf, sr: client, at: strings.Join(conf.URLs, ", "), schemas: map[Schema]*registered{}}, nil
}

// ID returns the number of a schema, and registers it first if the registry does not have it. It waits for a registry that is away. An
// error has the registry's own words.
func (c *Client) ID(ctx context.Context, s Schema) (int, error) {
	c.mu.Lock()
	r := c.schemas[s]
	if r == nil {
		r = &registered{turn: make(chan struct{}, 1)}
		c.schemas[s] = r
	}
	c.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if r.id != 0 {
		return r.id, nil
	}
	err := c.await(ctx, s.Subject, func() (err error) {
		r.id, err = c.ask(ctx, s)
		return err
	})
	return r.id, err
}

// Latest returns the number and the text of the newest schema of a subject; an empty text if the subject has none. It waits like ID, and
// keeps nothing.
func (c *Client) Latest(ctx context.Context, subject string) (id int, text string, err error) {
	err = c.await(ctx, subject, func() error {
		found, err := c.sr.SchemaByVersion(ctx, subject, -1)
		if missing(err) {
			return nil
		}
		id, text = found.ID, found.Schema.Schema
		return err
	})
	return id, text, err
}

// await asks until the registry answers.
func (c *Client) await(ctx context.Context, subject string, ask func() error) error {
	began, wait, warned := time.Now(), retryMin, false
	named := func(err error) error {
		return fmt.Errorf("subject %s of the schema registry at %s: %w", subject, c.at, err)
	}
	for {
		err := ask()
		switch {
		case err == nil:
			if warned {
				c.conf.Log.Infof("The schema registry answers again")
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !away(err):
			return named(refusal(err))
		case time.Since(began) > patience:
			return named(fmt.Errorf("no answer for %s: %w; start it, or correct registry.urls", patience, refusal(err)))
		}
		if !warned {
			warned = true
			c.conf.Log.Warnf("Waiting for the schema registry at %s, for subject %s: %v", c.at, subject, refusal(err))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		wait = min(2*wait, retryMax)
	}
}

// The codes of Confluent's API for what is not there.
const (
	codeNoSubject = 40401
	codeNoVersion = 40402
	codeNoSchema  = 40403
)

// ask looks the schema up, and registers it where it is not there. Registering checks that it is compatible.
func (c *Client) ask(ctx context.Context, s Schema) (int, error) {
	schema := sr.Schema{Schema: s.Text, Type: s.Type.wire()}
	found, err := c.sr.LookupSchema(ctx, s.Subject, schema)
	id := found.ID
	if missing(err) {
		if !c.conf.Register {
			return 0, fmt.Errorf("it does not have this schema, and registry.register is false: register it, %s", s.Text)
		}
		id, err = c.sr.RegisterSchema(ctx, s.Subject, schema, -1, -1)
	}
	if err != nil {
		return 0, err
	}
	if id <= 0 {
		return 0, fmt.Errorf("the answer has no schema id: is registry.urls the address of a registry with Confluent's API? Apicurio has it below /apis/ccompat/v7")
	}
	return id, nil
}

// missing reports that a registry does not have what it was asked for.
func missing(err error) bool {
	answer, ok := errors.AsType[*sr.ResponseError](err)
	return ok && (answer.ErrorCode == codeNoSubject || answer.ErrorCode == codeNoVersion || answer.ErrorCode == codeNoSchema)
}

// away reports an error that time may end.
func away(err error) bool {
	if answer, ok := errors.AsType[*sr.ResponseError](err); ok {
		return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	}
	return isNet(err)
}

// refusal says what the registry said, and the way out.
func refusal(err error) error {
	answer, ok := errors.AsType[*sr.ResponseError](err)
	if !ok {
		return err
	}
	words := answer.Error()
	if len(words) > most {
		words = strings.ToValidUTF8(words[:most], "") + " …"
	}
	hint := ""
	switch {
	case answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden:
		hint = "; check registry.basic_auth, registry.bearer_token, and what that user may do"
	case answer.StatusCode == http.StatusConflict:
		hint = "; change the compatibility of the subject (PUT /config/<subject>), or let it start anew (DELETE /subjects/<subject>): DeltaForge goes on by itself"
	case answer.StatusCode == http.StatusNotFound:
		hint = "; is registry.urls the address of a registry with Confluent's API? Apicurio has it below /apis/ccompat/v7"
	}
	return fmt.Errorf("it answers %d: %s%s", answer.StatusCode, words, hint)
}
