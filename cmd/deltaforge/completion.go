package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completionCommand prints what a shell completes commands and flags with.
func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "Print the completion of a shell: bash, zsh or fish",
		ArgsUsage: "bash|zsh|fish",
		Description: "Put the output where your shell looks for completions, or take it for one session:\n\n" +
			"  source <(deltaforge completion bash)\n  source <(deltaforge completion zsh)\n  deltaforge completion fish | source",
		Action: func(c *cli.Context) error {
			root := c.Lineage()[len(c.Lineage())-1]
			for _, outer := range c.Lineage() {
				if outer.App != nil {
					root = outer
				}
			}
			switch shell := c.Args().First(); shell {
			case "bash":
				return bashCompletion(c.App.Writer, root.App)
			case "zsh":
				fmt.Fprintln(c.App.Writer, "autoload -U +X bashcompinit && bashcompinit")
				return bashCompletion(c.App.Writer, root.App)
			case "fish":
				return fishCompletion(c.App.Writer, root.App)
			default:
				return cli.Exit(fmt.Sprintf("want bash, zsh or fish, got %q", shell), 1)
			}
		},
	}
}

// flagsOf returns the flags of a command as they are typed.
func flagsOf(flags []cli.Flag) (all []string) {
	for _, f := range flags {
		for _, name := range f.Names() {
			if len(name) > 1 {
				all = append(all, "--"+name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// words are what may follow a command: its subcommands and its flags.
func words(commands []*cli.Command, flags []cli.Flag) string {
	var all []string
	for _, c := range commands {
		if !c.Hidden {
			all = append(all, c.Name)
		}
	}
	return strings.Join(append(all, flagsOf(flags)...), " ")
}

func bashCompletion(w io.Writer, app *cli.App) error {
	var cases strings.Builder
	for _, c := range app.Commands {
		fmt.Fprintf(&cases, "    %s) words=%q ;;\n", c.Name, words(c.Subcommands, c.Flags))
	}
	_, err := fmt.Fprintf(w, `_deltaforge() {
  local current=${COMP_WORDS[COMP_CWORD]} words i
  words=%q
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
%s    esac
  done
  COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}
complete -o filenames -F _deltaforge deltaforge
`, words(app.Commands, app.Flags), cases.String())
	return err
}

func fishCompletion(w io.Writer, app *cli.App) error {
	var b strings.Builder
	quote := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		fmt.Fprintf(&b, "complete -c deltaforge -n __fish_use_subcommand -a %s -d %s\n", c.Name, quote(c.Usage))
		for _, sub := range c.Subcommands {
			fmt.Fprintf(&b, "complete -c deltaforge -n '__fish_seen_subcommand_from %s' -a %s -d %s\n", c.Name, sub.Name, quote(sub.Usage))
		}
		for _, f := range flagsOf(c.Flags) {
			fmt.Fprintf(&b, "complete -c deltaforge -n '__fish_seen_subcommand_from %s' -l %s\n", c.Name, strings.TrimPrefix(f, "--"))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
