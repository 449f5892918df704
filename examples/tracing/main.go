// Command tracing traces the calls of a managed client with redisotel, the
// instrumentation of go-redis itself. The spans are the same as with go-redis alone, one
// per call whatever is retried; here they go to an exporter in memory, and are printed.
//
//	go run ./examples/tracing
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "tracing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("tracing", flag.ContinueOnError)
	flags.SetOutput(out)
	redisAddr := flags.String("addr", "", "`host:port` of a Redis server; without it an embedded one is used")
	if err := flags.Parse(args); err != nil {
		return err
	}
	addr, stop, err := embed.Server(*redisAddr)
	if err != nil {
		return err
	}
	defer stop()

	// In production: an exporter for OTLP, and a batcher instead of a syncer.
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	defer func() { _ = provider.Shutdown(context.WithoutCancel(ctx)) }()

	rdb, err := managed.New(&redis.Options{Addr: addr})
	if err != nil {
		return err
	}
	defer rdb.Close()

	// redisotel wants a *redis.Client to add its hooks to. Instrument gives it one, and
	// runs the hooks around the calls of rdb.
	err = rdb.Instrument(func(target *redis.Client) error {
		return redisotel.InstrumentTracing(target, redisotel.WithTracerProvider(provider), redisotel.WithDBStatement(false))
	})
	if err != nil {
		return err
	}

	ctx, request := provider.Tracer("example").Start(ctx, "GET /cart")
	err = work(ctx, rdb)
	request.End()
	if err != nil {
		return err
	}
	for _, span := range exporter.GetSpans() {
		fmt.Fprintf(out, "%-14s in %s\n", span.Name, parent(exporter.GetSpans(), span))
	}
	return nil
}

// work does what a request would do.
func work(ctx context.Context, rdb *managed.Client) error {
	if err := rdb.Set(ctx, "cart:ann", "3 apples", 0).Err(); err != nil {
		return err
	}
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "cart:ann")
		p.Incr(ctx, "views")
		return nil
	}); err != nil {
		return err
	}
	return rdb.AcquireFunc(ctx, func(conn *managed.Conn) error { // leases are traced, too
		return conn.Get(conn.Context(), "cart:ann").Err()
	})
}

// parent is the name of the span that one belongs to.
func parent(all tracetest.SpanStubs, of tracetest.SpanStub) string {
	for _, span := range all {
		if span.SpanContext.SpanID() == of.Parent.SpanID() {
			return span.Name
		}
	}
	return "nothing"
}
