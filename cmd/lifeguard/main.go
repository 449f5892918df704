// Command lifeguard shows and examines managed Redis connections.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
)

func main() {
	redis.SetLogger(silent{})
	// After the first signal the default handling is restored: a second one ends the program at
	// once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// silent suppresses go-redis's log output: errors are shown where they belong.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
