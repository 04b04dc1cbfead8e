// Command deltaforge is the Benthos CLI with the DeltaForge components inside, and a few commands of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/urfave/cli/v2"

	// Everything a stream can be made of: our components, and the engine's own.
	_ "github.com/deltaforge/deltaforge"
	"github.com/deltaforge/deltaforge/internal/redact"
	"github.com/deltaforge/deltaforge/internal/version"
	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
)

func main() {
	if printVersion(os.Args) {
		return
	}
	ourHelp()
	p := newPlane()
	go p.goOn("garbage collector", func() { tuneGC(context.Background(), p.protect) }) // ends with the process
	code, err := service.RunCLIToCode(context.Background(), append(options(p), service.CLIOptSetArgs(os.Args...))...)
	if errors.Is(err, errTaken) { // the engine gets what is left
		code, err = service.RunCLIToCode(context.Background(), append(options(p), service.CLIOptSetArgs(p.files.args...))...)
	}
	if closeErr := p.close(); closeErr != nil {
		fmt.Fprintln(os.Stderr, redact.Text(closeErr.Error()))
	}
	if err != nil {
		var exit cli.ExitCoder
		if !errors.As(err, &exit) || err.Error() != "" {
			fmt.Fprintln(os.Stderr, redact.Text(err.Error()))
		}
	}
	if code == 0 && p.advised > 0 {
		code = 1
	}
	if p.restart.Load() {
		fmt.Fprintln(os.Stderr, again())
		code = 1
	}
	os.Exit(code)
}

func options(p *plane) []service.CLIOptFunc {
	return append([]service.CLIOptFunc{
		service.CLIOptSetVersion(version.String(), ""),
		service.CLIOptSetBinaryName("deltaforge"),
		service.CLIOptSetProductName("DeltaForge"),
		service.CLIOptSetDocumentationURL("https://github.com/deltaforge/deltaforge/tree/main/docs"),
		service.CLIOptSetDefaultConfigPaths(defaultConfigs()...),
		service.CLIOptSetMainSchemaFrom(func() *service.ConfigSchema { return p.schema(schema()) }),
		service.CLIOptAddCommand(checkpointCommand()),
		service.CLIOptAddCommand(demoCommand()),
		service.CLIOptAddCommand(dlqCommand()),
		service.CLIOptAddCommand(snapshotCommand()),
		service.CLIOptAddCommand(validateCommand()),
		service.CLIOptAddCommand(completionCommand()),
	}, p.options()...)
}

// schema is the engine's configuration with our defaults: numbers on port 9000, logs as JSON, and batches that stay in
// order through the processors.
func schema() *service.ConfigSchema {
	s := service.GlobalEnvironment().FullConfigSchema(version.String(), "")
	s.SetFieldDefault(map[string]any{"deltaforge": map[string]any{}}, "metrics")
	s.SetFieldDefault(map[string]any{noTracer: map[string]any{}}, "tracer")
	s.SetFieldDefault("json", "logger", "format")
	s.SetFieldDefault(map[string]any{"@service": "deltaforge"}, "logger", "static_fields")
	s.SetFieldDefault(1, "pipeline", "threads")
	// Three quarters of it are for what is on its way. Containers are killed after ten seconds.
	s.SetFieldDefault("6s", "shutdown_timeout")
	return s
}
