// Command kubernetes is a service as it runs in a pod. Its probes ask the client's
// PoolMonitor instead of sending a PING each, so that they cost nothing while Redis answers,
// and distinguish what a restart fixes from what it does not:
//
//	/livez    the process works; Redis is not checked: a restart would not fix it
//	/readyz   503 while Redis is unreachable or the pool is exhausted, with the reason
//
// On SIGTERM it first becomes not ready, so that no new requests are routed to it, then
// lets requests finish, and closes the pool last. The manifest is deployment.yaml.
//
//	go run ./examples/kubernetes   # on localhost:8080, until Ctrl-C
//	curl localhost:8080/readyz
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("kubernetes", flag.ContinueOnError)
	flags.SetOutput(out)
	redisAddr := flags.String("addr", "", "`host:port` of a Redis server; without it an embedded one is used")
	httpAddr := flags.String("http", "localhost:8080", "`host:port` to serve at")
	drain := flags.Duration("drain", 5*time.Second, "how long to be not ready before the server stops: until load balancers have noticed")
	within := flags.Duration("within", 20*time.Second, "how long requests and leases may take to end; with -drain less than terminationGracePeriodSeconds")
	if err := flags.Parse(args); err != nil {
		return err
	}
	addr, stop, err := embed.Server(*redisAddr)
	if err != nil {
		return err
	}
	defer stop()

	rdb, err := managed.New(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, PoolTimeout: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	var ending atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if why := notReady(r.Context(), rdb, ending.Load()); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("POST /visits", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second) // a deadline for each request
		defer cancel()
		n, err := rdb.Incr(ctx, "visits").Result()
		if err != nil {
			http.Error(w, "try again later", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, n)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 2 * time.Second}
	ln, err := net.Listen("tcp", *httpAddr)
	if err != nil {
		_ = rdb.Close()
		return err
	}
	fmt.Fprintf(out, "http://%s/readyz (Ctrl-C ends it)\n", ln.Addr())

	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ending.Store(true)
		fmt.Fprintf(out, "not ready, for %v\n", *drain)
		time.Sleep(*drain)
		ctx, cancel := context.WithTimeout(context.Background(), *within)
		defer cancel()
		ended <- errors.Join(srv.Shutdown(ctx), rdb.CloseGracefully(ctx))
	})
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, rdb.Close())
	}
	return <-ended
}

// notReady returns why the service should get no requests, "" if it should.
func notReady(ctx context.Context, rdb *managed.Client, ending bool) string {
	if ending {
		return "shutting down"
	}
	s := rdb.PoolMonitor().Stats()
	switch {
	case s.LastDialError != nil && s.Main.Open == 0:
		// A pod that is not ready gets no requests, so nobody else would find out that Redis is back.
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond) // less than the probe's timeoutSeconds
		defer cancel()
		if rdb.Ping(ctx).Err() == nil {
			return ""
		}
		return "redis cannot be reached: " + s.LastDialError.Err
	case s.Main.InUse >= s.Main.Size && s.Waiting > 0:
		return fmt.Sprintf("pool exhausted: %d of %d connections in use, %d waiting", s.Main.InUse, s.Main.Size, s.Waiting)
	}
	return ""
}
