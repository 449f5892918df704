// Command lifeguard shows and examines managed Redis connections.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// After the first signal the default comes back: a second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}
