// Command webcache is a shop page with sessions and a cache in front of a slow
// database, twice: with a Redis client for each request, and with one for the
// whole program. It sends 1000 requests to both, 50 at a time, and prints the
// results.
//
//	go run ./examples/webcache                         # the load test
//	go run ./examples/webcache -http localhost:8080    # then serve the right one, until Ctrl-C
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

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "webcache:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("webcache", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "", "`host:port` of a Redis server; without it an embedded one is used")
	requests := flags.Int("requests", 1000, "requests of the load test, to each of the two")
	at := flags.Int("at", 50, "requests at a time")
	serve := flags.String("http", "", "`host:port` to serve the shop at, after the load test")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *requests < 1 || *at < 1 {
		return fmt.Errorf("-requests %d -at %d: both must be at least 1", *requests, *at)
	}
	redisAddr, stop, err := embed.Server(*addr)
	if err != nil {
		return err
	}
	defer stop()

	wrong := &clientPerRequest{addr: redisAddr}
	right := newOneClient(redisAddr)
	defer right.close()
	var results []result
	for _, side := range []struct {
		name  string
		cache cache
	}{
		{"a client per request", wrong},
		{"one managed client", right},
	} {
		// Each has keys of its own, so that the second finds nothing of the first.
		app := &shop{cache: side.cache, db: &database{delay: 5 * time.Millisecond}, prefix: fmt.Sprintf("webcache:%d:%s:", os.Getpid(), side.name)}
		r, err := load(ctx, side.name, app, *requests, *at)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	printTable(out, results)
	if *serve == "" {
		return nil
	}
	app := &shop{cache: right, db: &database{delay: 50 * time.Millisecond}, prefix: "webcache:"}
	return serveUntil(ctx, *serve, app.handler(), out)
}

// serveUntil serves until ctx ends, and lets requests in progress finish.
func serveUntil(ctx context.Context, addr string, h http.Handler, out io.Writer) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe shop: http://%s/products/1 (Ctrl-C ends it)\n", ln.Addr())
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	end := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
	})
	defer end()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
