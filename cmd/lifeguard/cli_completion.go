package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v3"
)

// configureCompletion fits the library's completion command to ours.
func configureCompletion(c *cli.Command) {
	c.Hidden = false
	c.Usage = "prints a completion script for bash, zsh, fish or PowerShell"
	for _, one := range append(c.Commands, c) {
		one.OnUsageError = onUsageError
	}
	c.Action = func(_ context.Context, c *cli.Command) error {
		if shell := c.Args().First(); shell != "" {
			return misuse("no completion for %q; there is bash, zsh, fish and pwsh", shell)
		}
		return cli.ShowSubcommandHelp(c)
	}
	for _, shell := range c.Commands {
		shell.Usage = "prints the script for " + shell.Name
		if shell.Name != "bash" {
			continue
		}
		script := shell.Action
		shell.Action = func(ctx context.Context, c *cli.Command) error {
			if err := script(ctx, c); err != nil {
				return err
			}
			_, err := io.WriteString(c.Root().Writer, bashInit)
			return err
		}
	}
}

// bashInit replaces a function of the library's script, which fails on each Tab where the package
// bash-completion is not installed.
const bashInit = `
__lifeguard_init_completion() {
  COMPREPLY=()
  if declare -F _comp_initialize >/dev/null 2>&1; then
    _comp_initialize "$@"
  elif declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
    _get_comp_words_by_ref "$@" cur prev words cword
  else
    cur="${COMP_WORDS[COMP_CWORD]}"
    words=("${COMP_WORDS[@]}")
    cword="${COMP_CWORD}"
  fi
}
`
