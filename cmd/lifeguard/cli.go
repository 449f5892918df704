package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2

	// Exit codes of doctor.
	exitWarnings = 3
	exitCritical = 4
)

// exitStatus ends the program with this code; everything has been printed.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runRoot(ctx, newRoot(stdout, stderr), args)
}

func newRoot(stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:    "lifeguard",
		Version: version(),
		Usage:   "inspects Redis connections and their pools",
		Description: "Exit codes: 0 success (also after Ctrl-C), 1 failure, 2 the command line is wrong;\n" +
			"of doctor also 3 warnings, 4 something critical.\n" +
			"Flags take one dash or two. REDIS_URL names the server, unless flags do. NO_COLOR switches\n" +
			"colors off. `lifeguard COMMAND --help` has examples.",
		Commands:                        []*cli.Command{demoCommand(), doctorCommand(), clientsCommand(), topCommand(), benchCommand()},
		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: configureCompletion,
		Suggest:                         true,
		Writer:                          stdout,
		ErrWriter:                       stderr,
		ExitErrHandler:                  func(context.Context, *cli.Command, error) {}, // reported below
		OnUsageError:                    onUsageError,
		Action: func(_ context.Context, c *cli.Command) error {
			if name := c.Args().First(); name == "version" {
				return misuse("no command %q; did you mean --version?", name)
			} else if name != "" {
				return misuse("no command %q%s", name, didYouMean(cli.SuggestCommand(c.Commands, name), name))
			}
			return cli.ShowRootCommandHelp(c)
		},
	}
}

func runRoot(ctx context.Context, root *cli.Command, args []string) int {
	stderr := root.ErrWriter
	err := root.Run(ctx, asInRedisCLI(args))
	if err == nil {
		return exitOK
	}
	var status exitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "lifeguard: %v\nRun with --help for what there is.\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "lifeguard: %v\n", err)
	return exitFailed
}
