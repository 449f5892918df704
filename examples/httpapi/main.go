// Command httpapi is a small JSON interface to Redis on top of a managed pool. It
// shows what such a server needs: limits on request sizes, a deadline for every
// request, status codes that say what happened, and a graceful shutdown.
//
//	go run ./examples/httpapi                           # on localhost:8080, until Ctrl-C
//	curl -X PUT -d '{"value":"hello","ttl_ms":60000}' localhost:8080/v1/keys/greeting
//	curl localhost:8080/v1/keys/greeting
//	curl -X POST -d '{"by":2}' localhost:8080/v1/keys/visits/incr
//	curl -X DELETE localhost:8080/v1/keys/greeting
//	curl localhost:8080/healthz
//
// The live page of the pool is at /debug/redis.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "httpapi:", err)
		os.Exit(1)
	}
}

// endWithin is how long requests may take to finish after Ctrl-C.
const endWithin = 5 * time.Second

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("httpapi", flag.ContinueOnError)
	flags.SetOutput(out)
	redisAddr := flags.String("addr", "", "`host:port` of a Redis server; without it an embedded one is used")
	httpAddr := flags.String("http", "localhost:8080", "`host:port` to serve at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	addr, stop, err := embed.Server(*redisAddr)
	if err != nil {
		return err
	}
	defer stop()

	rdb, err := managed.New(&redis.Options{
		Addr:        addr,
		PoolSize:    100,                    // as many as concurrent requests
		PoolTimeout: 500 * time.Millisecond, // a request that waits longer for a connection gets a 503
		ReadTimeout: time.Second,
	})
	if err != nil {
		return err
	}
	page, err := dashboard.New(rdb.PoolMonitor(), dashboard.WithTitle("httpapi"))
	if err != nil {
		_ = rdb.Close()
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", newAPI(rdb))
	mux.Handle("/debug/redis", page)
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	// No WriteTimeout, because the live page is a stream; API requests have deadlines.
	srv.RegisterOnShutdown(page.Close)

	ln, err := net.Listen("tcp", *httpAddr)
	if err != nil {
		_ = rdb.Close()
		return err
	}
	fmt.Fprintf(out, "http://%s/v1/keys/{key}, the pool at http://%[1]s/debug/redis (Ctrl-C ends it)\n", ln.Addr())

	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), endWithin)
		defer cancel()
		// First the listener closes and requests finish, then the pool closes.
		ended <- errors.Join(srv.Shutdown(ctx), rdb.CloseGracefully(ctx))
	})
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}
