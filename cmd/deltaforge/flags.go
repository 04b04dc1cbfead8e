package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
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
	insecureFlag       = "insecure"

	addressVariable = "DELTAFORGE_CONTROL_ADDRESS"
	stateVariable   = "DELTAFORGE_STATE_DIR"

	// controlAddress is where the control plane listens, and localAddress where it does when nobody has to show credentials.
	controlAddress = "0.0.0.0:8080"
	localAddress   = "127.0.0.1:8080"

	tokenVariable = "DELTAFORGE_CONTROL_TOKEN"
	logVariable   = "DELTAFORGE_LOG"
	rustVariable  = "RUST_LOG"
)

func controlFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: controlAddressFlag, Value: controlAddress,
			Usage: "streams mode: the address of the control plane; without credentials the default is " + localAddress +
				"; empty for no API at all (or the variable " + addressVariable + ")",
		},
		&cli.StringFlag{
			Name:  stateDirFlag,
			Usage: "streams mode: a folder that keeps the pipelines made over HTTP, and which ones are paused or stopped (or the variable " + stateVariable + ")",
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
		&cli.BoolFlag{
			Name:  insecureFlag,
			Usage: "let a control plane without credentials listen where other machines reach it; who reaches it can run programs here",
		},
		&cli.Int64Flag{Name: maxBodyFlag, Value: 1 << 20, Usage: "the most bytes of a request to the control plane"},
	}
}

// takeOver gives a subcommand those of our flags that stand before it: the subcommand has the same ones, and their defaults
// would hide them. What no flag says is taken from the environment: the library would put that before the outer flags.
func takeOver(c *cli.Context) error {
	lineage := c.Lineage()
	for _, f := range controlFlags() {
		name := f.Names()[0]
		for _, outer := range lineage[1:] {
			if outer.Command == nil || c.IsSet(name) || !outer.IsSet(name) {
				continue
			}
			values := []string{fmt.Sprint(outer.Value(name))}
			if _, list := f.(*cli.StringSliceFlag); list {
				values = outer.StringSlice(name)
			}
			for _, v := range values {
				if err := c.Set(name, v); err != nil {
					return fmt.Errorf("--%s: %w", name, err)
				}
			}
		}
	}
	for name, variable := range map[string]string{controlAddressFlag: addressVariable, stateDirFlag: stateVariable} {
		if v := os.Getenv(variable); v != "" && !c.IsSet(name) {
			if err := c.Set(name, v); err != nil {
				return fmt.Errorf("%s: %w", variable, err)
			}
		}
	}
	return nil
}
