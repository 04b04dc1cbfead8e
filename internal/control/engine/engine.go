// Package engine is a client of the engine's own HTTP API, of the process itself.
package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Options says how to reach the engine's HTTP API.
type Options struct {
	// Address is `http.address` of the engine's configuration.
	Address string
	// CertFile is `http.cert_file`; empty: the engine speaks plain HTTP.
	CertFile string
	// Auth means that the server asks for the operator's own credentials, so that it cannot be told from another one.
	Auth bool
	// Lock are the credentials that the engine's server asks for.
	Lock Lock
}

// Lock are credentials that one process makes for itself: the engine's own server, which would let anybody who reaches it read
// and change streams, answers with them only, and only the control plane of the process knows them.
type Lock struct{ user, password string }

// NewLock returns credentials that nobody knows.
func NewLock() Lock { return Lock{user: "control-plane", password: rand.Text()} }

// Fields returns the section `http.basic_auth` of the engine's configuration that asks for the credentials.
func (l Lock) Fields() map[string]any {
	hash := sha256.Sum256([]byte(l.password))
	return map[string]any{
		"enabled": true, "username": l.user, "password_hash": base64.StdEncoding.EncodeToString(hash[:]), "algorithm": "sha256",
		"realm": "the control plane", "salt": "",
	}
}

// Holds reports whether a section `http.basic_auth` asks for these credentials.
func (l Lock) Holds(enabled bool, passwordHash string) bool {
	return enabled && passwordHash == l.Fields()["password_hash"]
}

// instancePath is an endpoint of ours on the engine's server. What it answers proves that the server is this process's.
const instancePath = "/deltaforge/instance"

// maxAnswer bounds what is read of an answer of the engine.
const maxAnswer = 64 << 20

// Client is a client of the engine's API.
type Client struct {
	base     string
	client   *http.Client
	instance string
	lock     Lock
	auth     bool
	routing  sync.RWMutex // held for writing while the engine may add routes: see Request
	err      error        // what is wrong with the options
}

// New returns a client. What is wrong with the options is told by Identify.
func New(o Options) *Client {
	e := &Client{instance: rand.Text(), lock: o.Lock, auth: o.Auth}
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		e.err = fmt.Errorf("http.address %q: %w", o.Address, err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true}
	scheme := "http"
	if o.CertFile != "" {
		scheme = "https"
		pem, err := os.ReadFile(o.CertFile)
		if err != nil {
			e.err = fmt.Errorf("http.cert_file: %w", err)
		}
		transport.TLSClientConfig = pinned(pem)
	}
	e.base = scheme + "://" + net.JoinHostPort(host, port)
	e.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return e
}

// pinned accepts the certificates of a file and no other, whatever names they are for.
func pinned(pem []byte) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // the name is not checked, the certificate is: see VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) (err error) {
			defer func() { // on a goroutine of the client's
				if p := recover(); p != nil {
					err = fmt.Errorf("panic while looking at the engine's certificate: %v", p)
				}
			}()
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(pem)
			_, err = cs.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: pool, Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
			})
			return err
		},
	}
}

// Identify registers the endpoint that proves whose server it is. The engine only logs when its address is in use, and
// another process would answer in its place.
func (e *Client) Identify(res *service.Resources) error {
	if e.err != nil {
		return e.err
	}
	r, err := RegistrarOf(res)
	if err != nil {
		return err
	}
	r.RegisterEndpoint(instancePath, "Identifies the process to its control plane.", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, e.instance)
	})
	return nil
}

// registrar is the engine's own HTTP server. Who registers a path again replaces its handler.
type registrar interface {
	RegisterEndpoint(path, desc string, h http.HandlerFunc)
}

// RegistrarOf finds the engine's HTTP server: the public API has no way to register an endpoint outside a component.
func RegistrarOf(res *service.Resources) (registrar, error) {
	unwrap := reflect.ValueOf(res.XUnwrapper()).MethodByName("Unwrap")
	if unwrap.IsValid() && unwrap.Type().NumIn() == 0 && unwrap.Type().NumOut() == 1 {
		if r, ok := reflect.TypeAssert[registrar](unwrap.Call(nil)[0]); ok {
			return r, nil
		}
	}
	return nil, errors.New("the control plane does not know this version of the engine")
}

// Await returns when the engine serves, or why it will not.
func (e *Client) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		a, err := e.Request(ctx, http.MethodGet, instancePath, nil, nil)
		switch {
		case err == nil && string(a.Body) == e.instance:
			return nil
		case err == nil && a.Status == http.StatusUnauthorized && e.auth:
			return nil
		case err == nil:
			return fmt.Errorf("the engine's HTTP API at %s is another process's: choose another http.address", e.base)
		}
		t := time.NewTimer(20 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("waiting for the engine's HTTP API: %w", err)
		}
	}
}

// Close ends the idle connections.
func (e *Client) Close() { e.client.CloseIdleConnections() }

// Answer is what the engine said.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// OK reports whether the engine did what it was asked to.
func (a Answer) OK() bool { return a.Status < 300 }

// Text is the answer as one line, for an error.
func (a Answer) Text() string {
	var lints struct {
		Lints []string `json:"lint_errors"`
	}
	if json.Unmarshal(a.Body, &lints) == nil && len(lints.Lints) > 0 {
		return strings.Join(lints.Lints, "; ")
	}
	return strings.TrimPrefix(strings.Join(strings.Fields(string(a.Body)), " "), "Error: ")
}

// routed is how long a request may take to get past the engine's router, which is a matter of microseconds.
const routed = 250 * time.Millisecond

// Request sends a request to the engine. The engine adds routes to its router for each new stream while it serves others by
// it, without a lock, and so may lose some; here is that lock.
func (e *Client) Request(ctx context.Context, method, path string, query url.Values, body []byte) (Answer, error) {
	if method == http.MethodPost {
		e.routing.Lock()
		defer e.routing.Unlock()
		return e.send(ctx, method, path, query, body)
	}
	e.routing.RLock()
	release := sync.OnceFunc(e.routing.RUnlock)
	defer release()
	if method == http.MethodDelete { // may take long, and nobody else should wait for it
		defer time.AfterFunc(routed, release).Stop()
	}
	return e.send(ctx, method, path, query, body)
}

func (e *Client) send(ctx context.Context, method, path string, query url.Values, body []byte) (Answer, error) {
	u := e.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if e.lock.user != "" {
		req.SetBasicAuth(e.lock.user, e.lock.password)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("asking the engine: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("reading the engine's answer: %w", err)
	}
	return Answer{Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Body: b}, nil
}

// Proxy returns what hands requests on to the engine's server with our credentials in place of the caller's.
func (e *Client) Proxy(errorLog *log.Logger, failed func(http.ResponseWriter, error)) (*httputil.ReverseProxy, error) {
	target, err := url.Parse(e.base)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport: e.client.Transport, ErrorLog: errorLog,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Header.Del("Cookie")
			r.Out.SetBasicAuth(e.lock.user, e.lock.password)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { failed(w, err) },
	}, nil
}

// StreamPath is the path of a stream.
func StreamPath(id string) string { return "/streams/" + url.PathEscape(id) }

// Info is what the engine lists of a stream.
type Info struct {
	Active    bool            `json:"active"`
	Uptime    float64         `json:"uptime"`
	UptimeStr string          `json:"uptime_str"`
	Status    string          `json:"status,omitempty"` // ours
	Config    json.RawMessage `json:"config,omitempty"` // of one stream only
}

// List returns the streams by id.
func (e *Client) List(ctx context.Context) (map[string]Info, error) {
	a, err := e.Request(ctx, http.MethodGet, "/streams", nil, nil)
	if err != nil {
		return nil, err
	}
	streams := map[string]Info{}
	if !a.OK() {
		return nil, fmt.Errorf("listing the engine's streams: %s", a.Text())
	}
	if err := json.Unmarshal(a.Body, &streams); err != nil {
		return nil, fmt.Errorf("listing the engine's streams: %w", err)
	}
	return streams, nil
}

// Get returns a stream and whether there is one.
func (e *Client) Get(ctx context.Context, id string) (info Info, found bool, err error) {
	a, err := e.Request(ctx, http.MethodGet, StreamPath(id), nil, nil)
	if err != nil || a.Status == http.StatusNotFound {
		return Info{}, false, err
	}
	if !a.OK() {
		return Info{}, false, fmt.Errorf("reading stream %q: %s", id, a.Text())
	}
	if err := json.Unmarshal(a.Body, &info); err != nil {
		return Info{}, false, fmt.Errorf("reading stream %q: %w", id, err)
	}
	return info, true, nil
}

// Connection is the state of one component of a stream.
type Connection struct {
	Label     string `json:"label"`
	Path      string `json:"path"`
	Connected bool   `json:"connected"`
	Error     string `json:"error"`
}

// Connections returns the state of the inputs and outputs of a stream.
func (e *Client) Connections(ctx context.Context, id string) ([]Connection, error) {
	a, err := e.Request(ctx, http.MethodGet, "/"+url.PathEscape(id)+"/ready", nil, nil)
	if err != nil {
		return nil, err
	}
	var r struct {
		Statuses []Connection `json:"statuses"`
	}
	if err := json.Unmarshal(a.Body, &r); err != nil {
		return nil, fmt.Errorf("reading the connections of stream %q: %w", id, err)
	}
	return r.Statuses, nil
}
