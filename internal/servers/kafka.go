package servers

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/deltaforge/deltaforge/internal/servers/binaries"
)

// Kafka is one Apache Kafka node that is broker and controller, or another broker of its cluster. Topics are not created by themselves.
type Kafka struct {
	*Server
	brokers    []string
	saslPort   int
	through    int    // port of the listener for a proxy; 0: none
	node       int    // its id in the cluster
	controller string // host:port of the cluster's controller
	cluster    string // id of the cluster
}

// StartKafka starts an Apache Kafka. Besides the plain listener at Addr it has, with Options.SASL or Options.TLS, one at
// SecureAddr, which takes SASL (User and Password; PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512) or TLS or both.
func StartKafka(ctx context.Context, opts Options) (*Kafka, error) {
	controller, err := FreePort()
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	id[0] &= 0x7f // a cluster id that begins with a dash would be taken for an option
	return startKafka(ctx, opts, Kafka{node: 1, controller: "127.0.0.1:" + strconv.Itoa(controller), cluster: base64.RawURLEncoding.EncodeToString(id)})
}

// StartSecondBroker starts another broker of the cluster, with the id 2.
func (s *Kafka) StartSecondBroker(ctx context.Context, opts Options) (*Kafka, error) {
	return startKafka(ctx, opts, Kafka{node: 2, controller: s.controller, cluster: s.cluster})
}

func startKafka(ctx context.Context, opts Options, of Kafka) (*Kafka, error) {
	libs, err := binaries.Kafka()
	if err != nil {
		return nil, err
	}
	java, err := binaries.Java()
	if err != nil {
		return nil, err
	}
	server, err := newServer("Kafka", opts)
	if err != nil {
		return nil, err
	}
	s := &of
	s.Server, s.brokers = server, []string{server.addr}
	s.stop = syscall.SIGTERM
	s.probe = s.ready
	run := []string{
		java, "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", filepath.Join(libs, "*"),
	}
	properties := s.path("server.properties")
	s.command = func() command {
		return command{args: append(append([]string{}, run...), "kafka.Kafka", properties)}
	}
	if err := s.configure(properties, opts); err != nil {
		return nil, s.abandon(err)
	}
	if _, err := os.Stat(s.path("data/meta.properties")); err != nil {
		if err := s.format(ctx, run, properties, opts); err != nil {
			return nil, s.abandon(err)
		}
	}
	if err := s.Start(ctx); err != nil {
		return nil, s.abandon(err)
	}
	return s, nil
}

// ConnectKafka describes a Kafka that somebody else runs, by its bootstrap brokers: host:port,host:port.
func ConnectKafka(ctx context.Context, brokers string) (*Kafka, error) {
	s := &Kafka{Server: externalServer("Kafka", brokers), brokers: strings.Split(brokers, ",")}
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("connecting to Kafka at %s: %w", brokers, err)
	}
	return s, nil
}

// Brokers are the bootstrap addresses.
func (s *Kafka) Brokers() []string { return s.brokers }

// SecureAddr is the host:port of the listener with SASL or TLS. Empty without either.
func (s *Kafka) SecureAddr() string {
	if s.saslPort == 0 {
		return ""
	}
	return "127.0.0.1:" + strconv.Itoa(s.saslPort)
}

// ThroughAddr is the host:port that the proxy of Options.Through leads to. Empty without one.
func (s *Kafka) ThroughAddr() string {
	if s.through == 0 {
		return ""
	}
	return "127.0.0.1:" + strconv.Itoa(s.through)
}

// configure writes server.properties.
func (s *Kafka) configure(path string, opts Options) error {
	var err error
	listeners, protocols := "PLAINTEXT://"+s.addr, "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
	lines := []string{
		"node.id=" + strconv.Itoa(s.node), "controller.quorum.voters=1@" + s.controller,
		"controller.listener.names=CONTROLLER", "log.dirs=" + s.path("data"),
		"offsets.topic.replication.factor=1", "offsets.topic.num.partitions=4",
		"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "transaction.state.log.num.partitions=4",
		"share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0", "broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=500",
		"auto.create.topics.enable=false",
	}
	if opts.SASL || opts.TLS {
		if s.saslPort, err = FreePort(); err != nil {
			return err
		}
		protocol, secure, err := s.secureLines(opts)
		if err != nil {
			return err
		}
		listeners += ",SECURE://" + s.SecureAddr()
		protocols += ",SECURE:" + protocol
		lines = append(lines, secure...)
	}
	roles, bound := "broker", listeners
	if s.node == 1 {
		roles, bound = "broker,controller", listeners+",CONTROLLER://"+s.controller
	}
	if opts.Through != "" {
		if s.through, err = FreePort(); err != nil {
			return err
		}
		bound += ",THROUGH://" + s.ThroughAddr()
		listeners += ",THROUGH://" + opts.Through
		protocols += ",THROUGH:PLAINTEXT"
	}
	lines = append(lines, "process.roles="+roles, "listeners="+bound, "advertised.listeners="+listeners,
		"listener.security.protocol.map="+protocols, "inter.broker.listener.name=PLAINTEXT")
	lines = append(lines, opts.Args...) // of two lines with one key the later wins
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("configuring Kafka: %w", err)
	}
	return nil
}

// secureLines configures the second listener.
func (s *Kafka) secureLines(opts Options) (protocol string, lines []string, err error) {
	if opts.SASL {
		plain := fmt.Sprintf("org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=%q;", User, Password)
		const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
		protocol = "SASL_PLAINTEXT"
		lines = append(lines, "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
			"listener.name.secure.plain.sasl.jaas.config="+plain,
			"listener.name.secure.scram-sha-256.sasl.jaas.config="+scram,
			"listener.name.secure.scram-sha-512.sasl.jaas.config="+scram)
	}
	if opts.TLS {
		cert, err := s.writeCertificate()
		if err != nil {
			return "", nil, err
		}
		chain, err1 := os.ReadFile(cert.cert)
		key, err2 := os.ReadFile(cert.key)
		if err := errors.Join(err1, err2); err != nil {
			return "", nil, err
		}
		protocol = map[bool]string{true: "SASL_SSL", false: "SSL"}[opts.SASL]
		lines = append(lines, "listener.name.secure.ssl.keystore.type=PEM",
			"listener.name.secure.ssl.keystore.certificate.chain="+strings.ReplaceAll(string(chain), "\n", `\n`),
			"listener.name.secure.ssl.keystore.key="+strings.ReplaceAll(string(key), "\n", `\n`))
	}
	return protocol, lines, nil
}

// format prepares the data directory for KRaft.
func (s *Kafka) format(ctx context.Context, run []string, properties string, opts Options) error {
	args := append(append([]string{}, run...), "kafka.tools.StorageTool", "format", "--ignore-formatted",
		"--cluster-id", s.cluster, "--config", properties)
	if opts.SASL {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, User, Password))
		}
	}
	return runTool(ctx, "formatting the Kafka data directory", command{args: args})
}

// ready asks for the metadata: a node that is still starting knows no broker.
func (s *Kafka) ready(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RetryTimeout(0), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	response, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	if err != nil {
		return err
	}
	if len(response.Brokers) == 0 || response.ControllerID < 0 {
		return errors.New("no broker in the metadata yet")
	}
	return nil
}
