// Package kafkaconn knows how a Kafka cluster is reached: the fields for that, which everything that does so has.
package kafkaconn

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/deltaforge/deltaforge/internal/loopback"
	"github.com/deltaforge/deltaforge/internal/sink"
)

// The fields that errors name.
const (
	FieldSeedBrokers = "seed_brokers"
	FieldClientID    = "client_id"
	FieldTLS         = "tls"
	FieldSASL        = "sasl"
)

const (
	fieldConnectTimeout = "connect_timeout"
	fieldMechanism      = "mechanism"
	fieldUsername       = "username"
	fieldPassword       = "password"
)

// SeedsField is the field of the brokers.
func SeedsField() *service.ConfigField {
	return service.NewStringListField(FieldSeedBrokers).
		LintRule(`root = if this.length() == 0 { ["want at least one broker as host:port, got none"] }`).
		Description("Brokers to connect to first, as `host:port`. The other brokers of the cluster are found from there. An entry may hold several, separated by commas.").
		Example([]string{"localhost:9092"}).Example([]string{"kafka-1:9092", "kafka-2:9092"})
}

// Fields are the other fields of a connection.
func Fields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewStringField(FieldClientID).Default("deltaforge").Advanced().
			Description("The name that the brokers know this client by, in logs and quotas."),
		service.NewDurationField(fieldConnectTimeout).Default("10s").Advanced().
			Description("How long one attempt to connect may take."),
		service.NewTLSToggledField(FieldTLS),
		service.NewObjectField(FieldSASL,
			service.NewStringEnumField(fieldMechanism, "none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512").Default("none").
				Description("How to authenticate. PLAIN sends the password as it is: use it with `tls` only."),
			service.NewStringField(fieldUsername).Default("").Description("The user name."),
			service.NewStringField(fieldPassword).Default("").Secret().Description("The password."),
		).Description("Authentication by user name and password."),
	}
}

// Conn is how a cluster is reached.
type Conn struct {
	Seeds          []string
	ClientID       string
	ConnectTimeout time.Duration
	TLS            sink.Dial // nil: without TLS
	SASL           sasl.Mechanism
}

// Parse reads the fields. Its errors name the field.
func Parse(p *service.ParsedConfig) (c Conn, err error) {
	read := func(name string, get func() error) {
		if err == nil {
			if e := get(); e != nil {
				err = fmt.Errorf("field %s: %w", name, e)
			}
		}
	}
	read(FieldSeedBrokers, func() error {
		list, e := p.FieldStringList(FieldSeedBrokers)
		if e == nil {
			c.Seeds, e = parseSeeds(list)
		}
		return e
	})
	read(FieldClientID, func() (e error) { c.ClientID, e = p.FieldString(FieldClientID); return e })
	read(fieldConnectTimeout, func() (e error) {
		c.ConnectTimeout, e = sink.DurationAtLeast(p, fieldConnectTimeout, 100*time.Millisecond)
		return e
	})
	read(FieldTLS, func() (e error) { c.TLS, e = sink.TLSDial(p, c.ConnectTimeout, FieldTLS); return e })
	read(FieldSASL, func() (e error) { c.SASL, e = parseSASL(p.Namespace(FieldSASL)); return e })
	return c, err
}

// Options are those of a client.
func (c Conn) Options() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(c.Seeds...), kgo.ClientID(c.ClientID), kgo.DialTimeout(c.ConnectTimeout), kgo.DisableClientMetrics()}
	if c.TLS != nil {
		opts = append(opts, kgo.Dialer(c.TLS))
	}
	if c.SASL != nil {
		opts = append(opts, kgo.SASL(c.SASL))
	}
	return opts
}

// ShownPassword returns a warning if the password goes over the network unencrypted, else "".
func (c Conn) ShownPassword() string {
	if c.TLS != nil || c.SASL == nil || c.SASL.Name() != "PLAIN" {
		return ""
	}
	for _, seed := range c.Seeds {
		if !loopback.Is(seed) {
			return "The password is sent to " + seed + " in clear text: sasl.mechanism is PLAIN, and tls is off. Turn tls on, or use a SCRAM mechanism"
		}
	}
	return ""
}

// parseSeeds splits entries at commas and checks that each is a host with an optional port.
func parseSeeds(list []string) ([]string, error) {
	var out []string
	for _, entry := range list {
		for s := range strings.SplitSeq(entry, ",") {
			if s = strings.TrimSpace(s); s == "" {
				continue
			}
			if strings.Contains(s, "://") {
				return nil, fmt.Errorf("%q is a URL; give host:port", s)
			}
			if _, port, err := net.SplitHostPort(s); err == nil {
				if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
					return nil, fmt.Errorf("%q has no port between 1 and 65535", s)
				}
			}
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("at least one host:port is needed")
	}
	return out, nil
}

func parseSASL(p *service.ParsedConfig) (sasl.Mechanism, error) {
	mechanism, err := p.FieldString(fieldMechanism)
	if err != nil {
		return nil, err
	}
	user, err := p.FieldString(fieldUsername)
	if err != nil {
		return nil, err
	}
	password, err := p.FieldString(fieldPassword)
	if err != nil {
		return nil, err
	}
	if mechanism == "none" {
		if user != "" || password != "" {
			return nil, fmt.Errorf("%s is none, but %s or %s is set", fieldMechanism, fieldUsername, fieldPassword)
		}
		return nil, nil
	}
	if user == "" || password == "" {
		return nil, fmt.Errorf("%s %s needs %s and %s", fieldMechanism, mechanism, fieldUsername, fieldPassword)
	}
	switch mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("%s %q is not one of none, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", fieldMechanism, mechanism)
}
