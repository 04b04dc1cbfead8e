package redisout

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/deltaforge/deltaforge/internal/deadletter"
	"github.com/deltaforge/deltaforge/internal/loopback"
	"github.com/deltaforge/deltaforge/internal/sink"
)

const (
	fieldURL             = "url"
	fieldUsername        = "username"
	fieldPassword        = "password"
	fieldTLS             = "tls"
	fieldWrite           = "write"
	fieldStream          = "stream"
	fieldPrefix          = "prefix"
	fieldMaxLen          = "max_len"
	fieldGuardKey        = "guard_key"
	fieldExactMaxLen     = "exact_max_len"
	fieldMinID           = "min_id"
	fieldRejectErrored   = "reject_errored"
	fieldMaxMessageBytes = "max_message_bytes"
	fieldMaxBuffered     = "max_buffered_bytes"
	fieldTimeout         = "timeout"
	fieldConnectTimeout  = "connect_timeout"
	fieldMaxInFlight     = "max_in_flight"
	fieldBatching        = "batching"
	fieldExactly         = "exactly_once"
	fieldTTL             = "ttl"
	fieldKey             = "key"
	fieldPrune           = "prune"
)

type config struct {
	redis           redis.Options
	topology        topology
	encrypted       bool
	shown           string                      // the server without its credentials, for errors
	stream          *service.InterpolatedString // nil: <prefix>:<schema or database>.<table>
	prefix          string
	write           string
	ttl             time.Duration               // of a copy; 0: none
	key             *service.InterpolatedString // of a row; nil: <prefix>:<schema or database>.<table>:<primary key>
	prune           bool
	guardKey        string
	maxLen          int64
	exactMaxLen     bool
	minID           *service.InterpolatedString // nil: none
	rejectErrored   bool
	maxMessageBytes int
	maxBuffered     int
	timeout         time.Duration
	connectTimeout  time.Duration
	dead            *deadletter.Config // nil: none
	maxInFlight     int
	batching        service.BatchPolicy
	exactly         bool
}

func parseConfig(p *service.ParsedConfig) (*config, error) {
	c := &config{}
	var err error
	read := func(name string, get func() error) {
		if err == nil {
			if e := get(); e != nil {
				err = fmt.Errorf("field %s: %w", name, e)
			}
		}
	}
	read(fieldURL, func() error { return c.parseServer(p) })
	read(fieldKind, func() error { return c.parseTopology(p) })
	read(fieldWrite, func() error {
		w, e := p.FieldString(fieldWrite)
		c.write = w
		return e
	})
	read(fieldStream, func() error { return c.parseStream(p) })
	read(fieldGuardKey, func() error { return c.parseGuardKey(p) })
	read(fieldKind, c.checkSlot)
	read(fieldMaxLen, func() (e error) {
		n, e := sink.IntBetween(p, 0, 1<<53, fieldMaxLen)
		c.maxLen = int64(n)
		return e
	})
	read(fieldExactMaxLen, func() (e error) {
		c.exactMaxLen, e = p.FieldBool(fieldExactMaxLen)
		if e == nil && c.exactMaxLen && c.maxLen == 0 {
			return fmt.Errorf("it says how %s is kept, and %s is 0", fieldMaxLen, fieldMaxLen)
		}
		return e
	})
	read(fieldMinID, func() (e error) {
		if !p.Contains(fieldMinID) {
			return nil
		}
		if c.maxLen > 0 {
			return fmt.Errorf("a stream is trimmed by it or by %s: remove one", fieldMaxLen)
		}
		if c.minID, e = p.FieldInterpolatedString(fieldMinID); e != nil {
			return e
		}
		if id, static := c.minID.Static(); static {
			return checkID(id)
		}
		return nil
	})
	read(fieldRejectErrored, func() (e error) { c.rejectErrored, e = p.FieldBool(fieldRejectErrored); return e })
	read(fieldMaxMessageBytes, func() (e error) {
		c.maxMessageBytes, e = sink.IntBetween(p, 1024, 512<<20, fieldMaxMessageBytes)
		return e
	})
	read(fieldMaxBuffered, func() (e error) {
		c.maxBuffered, e = sink.IntBetween(p, 4<<10, 256<<20, fieldMaxBuffered)
		return e
	})
	read(fieldTimeout, func() (e error) { c.timeout, e = sink.DurationAtLeast(p, fieldTimeout, 100*time.Millisecond); return e })
	read(fieldConnectTimeout, func() (e error) {
		c.connectTimeout, e = sink.DurationAtLeast(p, fieldConnectTimeout, 100*time.Millisecond)
		return e
	})
	read(fieldTLS, func() error { return c.parseTLS(p) })
	read(deadletter.FieldDeadLetter, func() (e error) { c.dead, e = deadletter.Of(p); return e })
	read(fieldMaxInFlight, func() (e error) { c.maxInFlight, e = sink.IntBetween(p, 1, 1<<16, fieldMaxInFlight); return e })
	read(fieldBatching, func() (e error) { c.batching, e = sink.Batching(p, fieldBatching); return e })
	read(fieldExactly, func() (e error) {
		if c.exactly, e = p.FieldBool(fieldExactly); e == nil && c.exactly {
			e = sink.CheckExactly(c.maxInFlight, c.batching)
		}
		return e
	})
	read(fieldTTL, func() (e error) {
		if p.Contains(fieldTTL) {
			c.ttl, e = p.FieldDuration(fieldTTL)
		}
		return e
	})
	read(fieldKey, func() (e error) {
		if p.Contains(fieldKey) {
			c.key, e = p.FieldInterpolatedString(fieldKey)
		}
		return e
	})
	read(fieldPrune, func() (e error) { c.prune, e = p.FieldBool(fieldPrune); return e })
	read(fieldWrite, c.checkWrite)
	if err != nil {
		return nil, err
	}
	c.tune()
	return c, nil
}

// parseServer never shows the URL: what makes it unparseable is often a password with characters that need encoding,
// and then any part of it may be the password.
func (c *config) parseServer(p *service.ParsedConfig) error {
	raw, err := p.FieldString(fieldURL)
	if err != nil {
		return err
	}
	if raw == "" {
		return errors.New("give redis://host:port, rediss://host:port or unix:///path")
	}
	o, err := c.topology.parseURLs(raw)
	if err != nil {
		return err
	}
	user, err := p.FieldString(fieldUsername)
	if err != nil {
		return err
	}
	password, err := p.FieldString(fieldPassword)
	if err != nil {
		return err
	}
	if (user != "" || password != "") && (o.Username != "" || o.Password != "") {
		return fmt.Errorf("it has credentials, and so has %s or %s; keep one", fieldUsername, fieldPassword)
	}
	if user != "" && password == "" {
		return fmt.Errorf("%s is set without %s", fieldUsername, fieldPassword)
	}
	if user != "" || password != "" {
		o.Username, o.Password = user, password
	}
	c.redis, c.shown, c.encrypted = *o, o.Addr, o.TLSConfig != nil
	return nil
}

// parseTLS is called after the connect timeout is known.
func (c *config) parseTLS(p *service.ParsedConfig) error {
	dial, err := sink.TLSDial(p, c.connectTimeout, fieldTLS)
	if err != nil || dial == nil {
		return err
	}
	if c.redis.Network == "unix" {
		return errors.New("a unix socket has no TLS")
	}
	c.redis.Dialer, c.encrypted = dial, true
	return nil
}

// shownPassword returns a warning if the password goes over the network unencrypted, else "".
func (c *config) shownPassword() string {
	if c.encrypted || c.redis.Password == "" || loopback.Is(c.redis.Addr) {
		return ""
	}
	return "The password is sent to " + c.shown + " in clear text: TLS is off. Use a rediss:// URL, or turn tls on"
}

func (c *config) parseStream(p *service.ParsedConfig) (err error) {
	if p.Contains(fieldStream) {
		if s, e := p.FieldString(fieldStream); e != nil || s != "" {
			if c.stream, err = p.FieldInterpolatedString(fieldStream); err != nil {
				return err
			}
		}
	}
	if c.prefix, err = p.FieldString(fieldPrefix); err != nil {
		return err
	}
	switch {
	case c.stream == nil && c.prefix == "":
		return fmt.Errorf("give either %s or %s", fieldStream, fieldPrefix)
	case c.stream != nil && c.prefix != "":
		return fmt.Errorf("%s is only used to build the default stream; remove it, or remove %s", fieldPrefix, fieldStream)
	case strings.ContainsAny(c.prefix, "\x00"):
		return fmt.Errorf("%s holds a NUL character", fieldPrefix)
	}
	return nil
}

// parseGuardKey is called after parseStream.
func (c *config) parseGuardKey(p *service.ParsedConfig) (err error) {
	if c.guardKey, err = p.FieldString(fieldGuardKey); err != nil || c.guardKey != "" {
		return err
	}
	c.guardKey = "deltaforge" + guardSuffix
	if c.stream == nil {
		c.guardKey = guardOf(c.prefix, true)
	} else if name, static := c.stream.Static(); static {
		c.guardKey = guardOf(name, false)
	}
	return nil
}

// tune sets what the output relies on: no repetition inside the client, which could send a transaction again after a
// later one, and no commands that a user with few rights may not run.
func (c *config) tune() {
	o := &c.redis
	if !c.exactly { // else the position is the guard
		o.OnConnect = c.raiseGuard
	}
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = c.connectTimeout
	o.ReadTimeout = c.timeout
	o.WriteTimeout = c.timeout
	o.ContextTimeoutEnabled = true
	o.PoolSize = c.maxInFlight + 1
	o.MinIdleConns = 0
	o.Protocol = 2
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
