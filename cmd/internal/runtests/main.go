// Command runtests is what scripts/test runs:
//
//	scripts/test [--allow-skips] [go test arguments]
//
// It finds the servers that the tests need, runs go test with the race detector
// over all modules of go.work, or over the packages among its arguments, and ends
// with the number of tests that passed, failed and were skipped. A skipped test
// fails the run unless --allow-skips is given.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

func main() {
	// Ctrl-C ends go test; the counts up to then are still reported.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Fprintln(os.Stderr, "scripts/test:", err)
		}
		os.Exit(1)
	}
}

// errFailed says that the report already says what is wrong.
var errFailed = errors.New("failed")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	allowSkips, args := arguments(args)
	env, err := servers(ctx, stdout, allowSkips)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := newReport(stdout)
	readErr := r.read(events)
	err = errors.Join(readErr, cmd.Wait())
	return r.end(err, allowSkips)
}

// arguments makes those of go from those of scripts/test.
func arguments(args []string) (allowSkips bool, test []string) {
	test = []string{"test", "-json", "-race", "-shuffle=on", "-p", "1"} // some tests measure time: one package after the other
	packages := false
	var rest []string
	for i, a := range args {
		if a == "-args" || a == "--args" { // those of the test binaries
			rest = append(rest, args[i:]...)
			break
		}
		if a == "--allow-skips" || a == "-allow-skips" {
			allowSkips = true
			continue
		}
		packages = packages || isPackage(a)
		rest = append(rest, a)
	}
	if !packages {
		test = append(test, "work")
	}
	return allowSkips, append(test, rest...)
}

// isPackage distinguishes a package pattern from a flag and its value.
func isPackage(arg string) bool {
	return arg == "." || arg == "work" || strings.HasPrefix(arg, "./") || strings.HasPrefix(arg, modulePath)
}
