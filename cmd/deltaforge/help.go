package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/deltaforge/deltaforge/internal/version"
)

// ourHelp makes what `deltaforge --help` says ours: the engine's tagline and examples are about another program.
func ourHelp() {
	cli.AppHelpTemplate = `NAME:
   {{.Name}} - row changes of MySQL, MariaDB and PostgreSQL, in order, to Kafka and Redis

USAGE:
   {{.Name}} [global options] command [command options]

EXAMPLES:
   {{.Name}} demo                                     see it work, with nothing installed or configured
   {{.Name}} validate orders.yaml                     lint a stream, build it and test its connections; nothing is changed
   {{.Name}} run orders.yaml                          run one stream
   {{.Name}} streams --state-dir /var/lib/deltaforge pipelines/
                                                      run many, and start and stop them over HTTP
   {{.Name}} checkpoint list                          see where the sources are
   {{.Name}} create deltaforge_postgres//deltaforge_kafka
                                                      write the beginning of a stream

COMMANDS:{{range .VisibleCommands}}
   {{join .Names ", "}}{{"\t"}}{{.Usage}}{{end}}

GLOBAL OPTIONS:{{range .VisibleFlags}}
   {{.}}{{end}}

The documentation is at https://github.com/deltaforge/deltaforge/tree/main/docs
`
}

// printVersion answers --version, and reports whether it was asked for.
func printVersion(args []string) bool {
	if len(args) != 2 || args[1] != "--version" && args[1] != "-version" && args[1] != "-v" && args[1] != "version" {
		return false
	}
	fmt.Fprintf(os.Stdout, "deltaforge %s, %s, %s/%s\n", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return true
}
