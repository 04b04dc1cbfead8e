package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/urfave/cli/v2"
	"gopkg.in/natefinch/lumberjack.v2"
	"gopkg.in/yaml.v3"

	"github.com/deltaforge/deltaforge/checkpoint"
	"github.com/deltaforge/deltaforge/internal/control"
	"github.com/deltaforge/deltaforge/internal/control/document"
	"github.com/deltaforge/deltaforge/internal/control/door"
	"github.com/deltaforge/deltaforge/internal/control/engine"
	"github.com/deltaforge/deltaforge/internal/control/logs"
	"github.com/deltaforge/deltaforge/internal/loopback"
)

// plane connects the control plane and the log with the engine's command line.
type plane struct {
	log       *logs.Log
	directive error // what is wrong with the log directives
	taken     bool  // the command is one whose log we write

	streams   bool   // the command is `streams`
	why       string // why there is no control plane
	asked     bool   // a flag asks for the control plane
	advised   int    // what lint has found besides what the engine finds
	opts      control.Options
	server    *control.Server
	pipeline  string // run mode: its name
	tenants   tenants
	names     *document.SourceNames
	files     *takenFiles // what the command line gave to the engine and is ours; nil: nothing
	variables quoted      // environment variables whose values have to be quoted
	restart   atomic.Bool // the process starts itself again when it has ended
	closeOnce sync.Once
	bar       *bar                                  // run mode: how far the tables are loaded; nil: nobody looks
	sources   *service.Resources                    // run mode: where they are found
	panics    atomic.Pointer[service.MetricCounter] // nil until there are numbers
}

// newPlane reads the log directives: the engine wants its loggers before its command line.
func newPlane() *plane {
	p := &plane{log: logs.New()}
	p.opts.Engine.Lock = engine.NewLock()
	p.names = document.NewSourceNames(sourceTypes())
	learnEnvironment()
	directives := os.Getenv(logVariable)
	if directives == "" {
		directives = os.Getenv(rustVariable)
	}
	if directives != "" {
		var levels logs.Levels
		if levels, p.directive = logs.ParseLevels(directives); p.directive == nil {
			p.log.SetLevels(levels)
		}
	}
	return p
}

// sourceTypes are the inputs that attach to the control plane.
func sourceTypes() []string { return []string{"deltaforge_mysql", "deltaforge_postgres"} }

func (p *plane) options() []service.CLIOptFunc {
	return []service.CLIOptFunc{
		service.CLIOptCustomRunFlags(controlFlags(), p.parse),
		service.CLIOptOnConfigParse(p.configure),
		service.CLIOptOnStreamStart(p.start),
		service.CLIOptAddTeeLogger(p.log.Logger()),
		service.CLIOptSetEnvVarLookup(p.variables.lookup),
	}
}

// schema makes the engine's own server, which the control plane hides, one for this machine, and one that answers nobody else.
func (p *plane) schema(s *service.ConfigSchema) *service.ConfigSchema {
	if p.streams && p.why == "" {
		s.SetFieldDefault("127.0.0.1:4195", "http", "address")
		for field, value := range p.opts.Engine.Lock.Fields() {
			s.SetFieldDefault(value, "http", "basic_auth", field)
		}
	}
	return s
}

// parse is called by the engine with the flags of `run` and `streams`, before it reads the configuration.
func (p *plane) parse(c *cli.Context) error {
	if err := takeOver(c); err != nil {
		return err
	}
	if err := p.parseLevel(c); err != nil {
		return err
	}
	p.streams = c.Command.Name == "streams"
	if c.Command.Name == "lint" {
		p.lintStreams(c)
	}
	for _, name := range []string{controlAddressFlag, stateDirFlag, tokenFileFlag, usersFileFlag, tlsCertFlag, originFlag} {
		p.asked = p.asked || c.IsSet(name)
	}
	switch {
	case !p.streams:
		p.why = "it is a part of streams mode; run mode has /health and /ready at http.address"
	case c.String(controlAddressFlag) == "":
		p.why, p.asked = "its address is empty", c.IsSet(stateDirFlag)
		if err := c.Set("no-api", "true"); err != nil { // the engine's own is open to everybody
			return err
		}
	case c.Bool("no-api"):
		p.why = "--no-api is given"
	case !c.Bool("prefix-stream-endpoints"):
		return errors.New("--prefix-stream-endpoints=false: the control plane needs the prefixes; add --no-api to run without it")
	}
	if p.why == "" {
		if err := p.parseControl(c); err != nil {
			return err
		}
	}
	return p.takeFiles(c)
}

// parseLevel makes our log the only one: the engine's own does not know what a line is about. The flag is nearer than the
// environment, and that is nearer than the configuration.
func (p *plane) parseLevel(c *cli.Context) error {
	p.taken = true
	for _, outer := range c.Lineage() {
		level := outer.String("log.level")
		if level == "" {
			continue
		}
		levels, err := logs.ParseLevel(level)
		if err != nil {
			return fmt.Errorf("--log.level: %w", err)
		}
		p.log.SetLevels(levels)
		p.directive = nil
		break
	}
	if p.directive != nil {
		return p.directive
	}
	return c.Set("log.level", "OFF")
}

func (p *plane) parseControl(c *cli.Context) error {
	p.opts = control.Options{
		Address: c.String(controlAddressFlag), StateDir: c.String(stateDirFlag), Origins: c.StringSlice(originFlag),
		MaxBody: c.Int64(maxBodyFlag), SourceTypes: sourceTypes(), Names: p.names,
		Insecure: c.Bool(insecureFlag), Engine: p.opts.Engine,
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
		if p.opts.Credentials.Users, err = parseUsers(string(users)); err != nil {
			return fmt.Errorf("--%s: %s: %w", usersFileFlag, path, err)
		}
	}
	p.opts.Credentials.Learn()
	if !p.opts.Credentials.Any() && !c.IsSet(controlAddressFlag) {
		p.opts.Address = localAddress
	}
	if cert, key := c.String(tlsCertFlag), c.String(tlsKeyFlag); cert != "" || key != "" {
		var err error
		if p.opts.TLS, err = door.CertificateFiles(cert, key); err != nil {
			return fmt.Errorf("--%s and --%s: %w", tlsCertFlag, tlsKeyFlag, err)
		}
	}
	return nil
}

// parseUsers reads the lines user:password of a users file.
func parseUsers(text string) (map[string]string, error) {
	users := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, password, found := strings.Cut(line, ":")
		if !found || user == "" || password == "" {
			return nil, fmt.Errorf("line %d: want user:password, neither of them empty", n)
		}
		if _, twice := users[user]; twice {
			return nil, fmt.Errorf("line %d: the user %s is there already", n, user)
		}
		users[user] = password
	}
	if len(users) == 0 {
		return nil, errors.New("no user in it; want user:password on each line")
	}
	return users, nil
}

// configure is called by the engine when it has read its configuration and built its resources, before any stream.
func (p *plane) configure(conf *service.ParsedConfig) error {
	p.panics.Store(conf.Resources().Metrics().NewCounter("panics_total", "component"))
	if err := p.name(conf); err != nil {
		return err
	}
	if input, err := yaml.Marshal(map[string]any{"input": section(conf, "input")}); err == nil && !p.streams {
		p.names.Put("", input)
	}
	if err := p.formatLog(conf); err != nil {
		return err
	}
	for _, name := range []string{"input", "pipeline", "output", "metrics", "tracer", "cache_resources", "input_resources", "output_resources"} {
		// The files were learned from before; this is what --set and templates have made of them.
		if text, err := yaml.Marshal(map[string]any{name: section(conf, name)}); err == nil {
			document.Learn(text)
		}
	}
	if err := p.engine(conf); err != nil {
		return err
	}
	if p.why != "" {
		if p.asked {
			return fmt.Errorf("no control plane: %s", p.why)
		}
		if p.streams {
			conf.Resources().Logger().Infof("No control plane: %s", p.why)
			return nil
		}
		warnOfStream(conf)
		input, _ := section(conf, "input").(map[string]any)
		var err error
		single := control.SingleOptions{Pipeline: p.pipeline, SourceType: document.InputType(input), Resources: conf.Resources()}
		if enabled, err := conf.FieldBool("http", "enabled"); err == nil && enabled {
			single.Engine.Address, _ = conf.FieldString("http", "address")
			single.Engine.CertFile, _ = conf.FieldString("http", "cert_file")
			single.Engine.Auth, _ = conf.FieldBool("http", "basic_auth", "enabled")
		}
		if p.server, err = control.NewSingle(single); err == nil {
			p.sources = conf.Resources()
		}
		return err
	}
	p.opts.Resources = conf.Resources()
	p.opts.Checkpoints = checkpoints{conf.Resources()}
	p.opts.Tenant = p.tenants.of
	p.files.into(&p.opts)
	var err error
	p.server, err = control.New(context.Background(), p.opts)
	return err
}

// engine finds out how to reach the engine's own server, and refuses to start where that one would show or change what it must
// not.
func (p *plane) engine(conf *service.ParsedConfig) error {
	address, _ := conf.FieldString("http", "address")
	enabled, _ := conf.FieldBool("http", "enabled")
	auth, _ := conf.FieldBool("http", "basic_auth", "enabled")
	hash, _ := conf.FieldString("http", "basic_auth", "password_hash")
	if p.why != "" {
		debug, _ := conf.FieldBool("http", "debug_endpoints")
		if debug && enabled && !auth && !loopback.Is(address) {
			return fmt.Errorf("http.debug_endpoints on http.address %s shows the configuration and the memory of the process to everybody: "+
				"set http.address to 127.0.0.1:4195, or enable http.basic_auth", address)
		}
		return nil
	}
	switch {
	case !enabled:
		return errors.New("http.enabled is false: the control plane reaches the engine over its server; take it out, or give --no-api to " +
			"run the streams without a control plane")
	case !p.opts.Engine.Lock.Holds(auth, hash):
		return fmt.Errorf("http.basic_auth: in streams mode the engine's own server answers nobody but the control plane; take the section "+
			"out, and give the control plane its credentials by --%s or %s", usersFileFlag, tokenVariable)
	}
	p.opts.Engine.Address = address
	p.opts.Engine.CertFile, _ = conf.FieldString("http", "cert_file")
	return nil
}

// formatLog gives the log the settings of the logger section.
func (p *plane) formatLog(conf *service.ParsedConfig) error {
	text := func(path ...string) string {
		s, _ := conf.FieldString(append([]string{"logger"}, path...)...)
		return s
	}
	f := logs.Format{
		Text: text("format") == "logfmt", TimeKey: text("timestamp_name"), LevelKey: text("level_name"),
		MessageKey: text("message_name"), Out: os.Stdout, Pipeline: p.pipeline, Tenant: p.tenants.of, Sources: p.names,
	}
	if !p.log.HasLevels() {
		levels, err := logs.ParseLevel(text("level"))
		if err != nil {
			return fmt.Errorf("logger.level: %w", err)
		}
		p.log.SetLevels(levels)
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
		file, err := logFile(conf, path)
		if err != nil {
			return fmt.Errorf("logger.file.path: %w", err)
		}
		f.Out = file // open until the process ends, as the engine's
	}
	if !p.streams {
		if p.bar = barOn(f.Out); p.bar != nil {
			f.Out = p.bar.below(f.Out)
		}
	}
	p.log.SetFormat(f)
	return nil
}

// logFile opens the file of the log. One that rotates does so as the engine's.
func logFile(conf *service.ParsedConfig, path string) (io.Writer, error) {
	if rotate, err := conf.FieldBool("logger", "file", "rotate"); err != nil || !rotate {
		return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	}
	days, err := conf.FieldInt("logger", "file", "rotate_max_age_days")
	if err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: path, MaxSize: 10, MaxAge: days, MaxBackups: 1, Compress: true}, nil
}

// name finds out what the pipelines are called on the metrics page.
func (p *plane) name(conf *service.ParsedConfig) (err error) {
	exporter, _ := section(conf, "metrics").(map[string]any)
	ours, _ := exporter["deltaforge"].(map[string]any)
	if _, there := exporter["deltaforge"]; there && ours == nil {
		ours = map[string]any{}
	}
	if !p.streams {
		p.pipeline, _ = ours["pipeline"].(string)
		p.pipeline = cmp.Or(p.pipeline, "default")
	}
	tenant, _ := ours["tenant"].(string)
	mapping, _ := exporter["mapping"].(string)
	p.opts.LabelTenants = ours != nil
	p.tenants, err = newTenants(cmp.Or(tenant, "default"), mapping, p.streams)
	return err
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

const (
	// earlySignal is how long after the start a signal is repeated, and engineListens how much later.
	earlySignal   = 10 * time.Second
	engineListens = time.Second
)

// start is called by the engine when it runs the streams of its configuration files.
func (p *plane) start(running *service.RunningStreamSummary) error {
	if p.server == nil {
		return nil
	}
	p.hangUp()
	// The engine stops the streams on the same signals: that is no change that the control plane should report.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	begin := p.server.Start
	if !p.streams {
		begin = func(ctx context.Context) error { return p.server.StartSingle(ctx, running.ConnectionStatuses) }
	}
	if err := begin(context.WithoutCancel(ctx)); err != nil {
		cancel()
		return err
	}
	p.showProgress(ctx)
	began := time.Now()
	go p.goOn("signals", func() {
		<-ctx.Done()
		cancel()
		_ = p.close()
		if time.Since(began) < earlySignal {
			// The engine listens for signals a moment after it has called us, and may have missed this one. A second one does nothing to an
			// engine that stops already, but for ending its shutdown_delay.
			<-time.After(engineListens)
			_ = interruptSelf()
		}
	})
	if p.files != nil && !p.streams {
		go p.goOn("watch", func() { p.watchRun(ctx) })
	}
	return nil
}

// close ends what start and configure began. It may be called more than once.
func (p *plane) close() (err error) {
	p.closeOnce.Do(func() {
		if p.server != nil {
			err = p.server.Close(context.Background())
		}
		if p.taken {
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
		return checkpoint.Forget(ctx, checkpoint.FromCache(c.res, at.Cache), at.Key)
	}
	s, err := checkpoint.OpenExistingSQLite(ctx, storePath(at))
	if err != nil {
		return absent(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	// Locks the key: a source that uses it refuses this. What is broken or lost is forgotten as well.
	if _, err := s.Get(ctx, at.Key); errors.Is(err, checkpoint.ErrNotFound) || errors.Is(err, checkpoint.ErrLocked) {
		return absent(err)
	}
	return checkpoint.Forget(ctx, s, at.Key)
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
