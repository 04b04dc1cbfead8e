package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/control"
)

const (
	controlAddressFlag = "control-address"
	tokenFileFlag      = "control-token-file"
	usersFileFlag      = "control-users-file"
	tlsCertFlag        = "control-tls-cert"
	tlsKeyFlag         = "control-tls-key"
	originFlag         = "control-cors-origin"
	maxBodyFlag        = "control-max-body"
	stateDirFlag       = "state-dir"

	tokenVariable = "DELTAFORGE_CONTROL_TOKEN"
	logVariable   = "DELTAFORGE_LOG"
	rustVariable  = "RUST_LOG"
)

// plane connects the control plane and the log with the engine's command line.
type plane struct {
	log       *control.TargetLog // nil: the engine writes its log itself
	directive error              // what is wrong with the log directives

	streams   bool   // the command is `streams`
	why       string // why there is no control plane
	asked     bool   // a flag asks for the control plane
	opts      control.Options
	server    *control.Server
	closeOnce sync.Once
}

// newPlane reads the log directives: the engine wants its loggers before its command line.
func newPlane() *plane {
	p := &plane{}
	directives := os.Getenv(logVariable)
	if directives == "" {
		directives = os.Getenv(rustVariable)
	}
	if directives != "" {
		var levels control.Levels
		levels, p.directive = control.ParseLevels(directives)
		p.log = control.NewTargetLog(levels)
	}
	return p
}

func (p *plane) options() []service.CLIOptFunc {
	opts := []service.CLIOptFunc{
		service.CLIOptCustomRunFlags(controlFlags(), p.parse),
		service.CLIOptOnConfigParse(p.configure),
		service.CLIOptOnStreamStart(func(*service.RunningStreamSummary) error { return p.start() }),
	}
	if p.log != nil {
		opts = append(opts, service.CLIOptAddTeeLogger(p.log.Logger()))
	}
	return opts
}

// schema makes the engine's own server, behind the control plane, one for this machine.
func (p *plane) schema(s *service.ConfigSchema) *service.ConfigSchema {
	if p.streams && p.why == "" {
		s.SetFieldDefault("127.0.0.1:4195", "http", "address")
	}
	return s
}

func controlFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: controlAddressFlag, Value: "0.0.0.0:8080", EnvVars: []string{"DELTAFORGE_CONTROL_ADDRESS"},
			Usage: "streams mode: the address of the control plane; empty for none",
		},
		&cli.StringFlag{
			Name: stateDirFlag, EnvVars: []string{"DELTAFORGE_STATE_DIR"},
			Usage: "streams mode: a folder that keeps the pipelines made over HTTP, and which ones are paused or stopped",
		},
		&cli.StringFlag{
			Name:  tokenFileFlag,
			Usage: "a file with the bearer token that callers of the control plane show (or the variable " + tokenVariable + ")",
		},
		&cli.StringFlag{
			Name: usersFileFlag, Usage: "a file with a user:password for the control plane on each line",
		},
		&cli.StringFlag{Name: tlsCertFlag, Usage: "a certificate file: the control plane speaks TLS"},
		&cli.StringFlag{Name: tlsKeyFlag, Usage: "the key file of the certificate"},
		&cli.StringSliceFlag{
			Name: originFlag, Usage: "a browser origin that may call the control plane, * for all; can be repeated",
		},
		&cli.Int64Flag{Name: maxBodyFlag, Value: 1 << 20, Usage: "the most bytes of a request to the control plane"},
	}
}

// parse is called by the engine with the flags of `run` and `streams`, before it reads the configuration.
func (p *plane) parse(c *cli.Context) error {
	if p.log != nil {
		if c.String("log.level") != "" {
			p.log.Disable() // the flag is nearer than the environment
		} else if p.directive != nil {
			return p.directive
		} else if err := c.Set("log.level", "OFF"); err != nil {
			return err
		}
	}
	p.streams = c.Command.Name == "streams"
	for _, name := range []string{controlAddressFlag, stateDirFlag, tokenFileFlag, usersFileFlag, tlsCertFlag, originFlag} {
		p.asked = p.asked || c.IsSet(name)
	}
	switch {
	case !p.streams:
		p.why = "it is a part of streams mode"
	case c.String(controlAddressFlag) == "":
		p.why, p.asked = "its address is empty", c.IsSet(stateDirFlag)
	case c.Bool("no-api"):
		p.why = "--no-api is given"
	case !c.Bool("prefix-stream-endpoints"):
		p.why = "it needs --prefix-stream-endpoints"
	}
	if p.why != "" {
		return nil
	}
	return p.parseControl(c)
}

func (p *plane) parseControl(c *cli.Context) error {
	p.opts = control.Options{
		Address: c.String(controlAddressFlag), StateDir: c.String(stateDirFlag), Origins: c.StringSlice(originFlag),
		MaxBody: c.Int64(maxBodyFlag), SourceTypes: []string{"deltaforge_mysql", "deltaforge_postgres"},
	}
	if p.opts.MaxBody <= 0 {
		return fmt.Errorf("--%s: want more than 0 bytes, got %d", maxBodyFlag, p.opts.MaxBody)
	}
	p.opts.Credentials.Token = os.Getenv(tokenVariable)
	if path := c.String(tokenFileFlag); path != "" {
		token, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--%s: %w", tokenFileFlag, err)
		}
		if p.opts.Credentials.Token = strings.TrimSpace(string(token)); p.opts.Credentials.Token == "" {
			return fmt.Errorf("--%s: %s is empty", tokenFileFlag, path)
		}
	}
	if path := c.String(usersFileFlag); path != "" {
		users, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("--%s: %w", usersFileFlag, err)
		}
		p.opts.Credentials.Users = map[string]string{}
		for line := range strings.Lines(string(users)) {
			if line = strings.TrimSpace(line); line != "" {
				user, password, _ := strings.Cut(line, ":")
				p.opts.Credentials.Users[user] = password
			}
		}
	}
	if cert, key := c.String(tlsCertFlag), c.String(tlsKeyFlag); cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("--%s and --%s: %w", tlsCertFlag, tlsKeyFlag, err)
		}
		p.opts.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	return nil
}

// configure is called by the engine when it has read its configuration and built its resources, before any stream.
func (p *plane) configure(conf *service.ParsedConfig) error {
	if p.log != nil {
		p.formatLog(conf)
	}
	if p.why == "" {
		p.engine(conf)
	}
	if p.why != "" {
		if p.asked {
			return fmt.Errorf("no control plane: %s", p.why)
		}
		if p.streams {
			conf.Resources().Logger().Infof("No control plane: %s", p.why)
		}
		return nil
	}
	p.opts.Resources = conf.Resources()
	p.opts.Checkpoints = checkpoints{conf.Resources()}
	exporter, _ := section(conf, "metrics").(map[string]any)
	ours, _ := exporter["deltaforge"].(map[string]any)
	p.opts.Tenant, _ = ours["tenant"].(string)
	var err error
	p.server, err = control.New(context.Background(), p.opts)
	return err
}

// engine finds out how to reach the engine's API, or why that cannot be done.
func (p *plane) engine(conf *service.ParsedConfig) {
	if enabled, err := conf.FieldBool("http", "enabled"); err == nil && !enabled {
		p.why = "http.enabled is false"
	}
	if auth, err := conf.FieldBool("http", "basic_auth", "enabled"); err == nil && auth {
		p.why = "http.basic_auth is enabled; use --" + usersFileFlag + " instead"
	}
	p.opts.Engine.Address, _ = conf.FieldString("http", "address")
	p.opts.Engine.CertFile, _ = conf.FieldString("http", "cert_file")
}

// formatLog gives the log the settings of the logger section.
func (p *plane) formatLog(conf *service.ParsedConfig) {
	text := func(path ...string) string {
		s, _ := conf.FieldString(append([]string{"logger"}, path...)...)
		return s
	}
	f := control.LogFormat{
		Text: text("format") == "logfmt", TimeKey: text("timestamp_name"), LevelKey: text("level_name"),
		MessageKey: text("message_name"), Out: os.Stdout,
	}
	f.Time, _ = conf.FieldBool("logger", "add_timestamp")
	f.Static, _ = conf.FieldStringMap("logger", "static_fields")
	if !p.streams {
		output, _ := section(conf, "output").(map[string]any)
		if _, ok := output["stdout"]; ok || output["type"] == "stdout" {
			f.Out = os.Stderr // as the engine does: stdout belongs to the data
		}
	}
	if path := text("file", "path"); path != "" {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err == nil {
			f.Out = file // open until the process ends, as the engine's
		}
	}
	p.log.SetFormat(f)
}

// section returns a section of the configuration as maps, lists and scalars; nil when there is none. The engine has
// components as nodes of the file.
func section(conf *service.ParsedConfig, name string) (v any) {
	field, err := conf.FieldAny(name)
	if err != nil {
		return nil
	}
	text, err := yaml.Marshal(field)
	if err != nil || yaml.Unmarshal(text, &v) != nil {
		return nil
	}
	return v
}

// start is called by the engine when it runs the streams of its configuration files.
func (p *plane) start() error {
	if p.server == nil {
		return nil
	}
	// The engine stops the streams on the same signals: that is no change that the control plane should report.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if err := p.server.Start(context.WithoutCancel(ctx)); err != nil {
		cancel()
		return err
	}
	go func() {
		<-ctx.Done()
		cancel()
		_ = p.close()
	}()
	return nil
}

// close ends what start and configure began. It may be called more than once.
func (p *plane) close() (err error) {
	p.closeOnce.Do(func() {
		if p.server != nil {
			err = p.server.Close(context.Background())
		}
		if p.log != nil {
			p.log.Flush(os.Stderr)
		}
	})
	return err
}

// checkpoints reads and deletes saved positions for the control plane.
type checkpoints struct{ res *service.Resources }

var _ control.Checkpoints = checkpoints{}

// Read implements control.Checkpoints.
func (c checkpoints) Read(ctx context.Context, at control.CheckpointLocation) (record json.RawMessage, err error) {
	if at.Cache != "" {
		record, err = checkpoint.FromCache(c.res, at.Cache).Get(ctx, at.Key)
		return record, absent(err)
	}
	s, err := checkpoint.OpenExistingSQLite(ctx, storePath(at))
	if err != nil {
		return nil, absent(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	record, err = s.Peek(ctx, at.Key)
	return record, absent(err)
}

// Delete implements control.Checkpoints.
func (c checkpoints) Delete(ctx context.Context, at control.CheckpointLocation) (err error) {
	if at.Cache != "" {
		if _, err := c.Read(ctx, at); err != nil {
			return err
		}
		var deleted error
		if err := c.res.AccessCache(ctx, at.Cache, func(cache service.Cache) { deleted = cache.Delete(ctx, at.Key) }); err != nil {
			return fmt.Errorf("cache %q: %w", at.Cache, err)
		}
		return deleted
	}
	s, err := checkpoint.OpenExistingSQLite(ctx, storePath(at))
	if err != nil {
		return absent(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Get(ctx, at.Key); err != nil { // locks the key: a source that uses it refuses this
		return absent(err)
	}
	return s.Delete(ctx, at.Key)
}

func storePath(at control.CheckpointLocation) string {
	if at.Path == "" {
		return "deltaforge-checkpoints.db" // the default of `checkpoint.path`
	}
	return at.Path
}

// absent says in the control plane's words that nothing is saved.
func absent(err error) error {
	if errors.Is(err, checkpoint.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return control.ErrNoCheckpoint
	}
	return err
}
