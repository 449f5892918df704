package otel

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// Client is a client whose calls [WithOperations] times: any client of go-redis or managed.
type Client interface{ AddHook(redis.Hook) }

// operationDuration is the metric that has an attribute for each command.
const operationDuration = "db.client.operation.duration"

// maxOperations is the maximum number of series of an operations: a program may make up command
// names. Further ones are counted as operation "_OTHER".
const maxOperations = 1000

// other is the conventions' name for anything without a name.
const other = "_OTHER"

// operation identifies the series of a call.
type operation struct{ name, failure, status string }

// operations is the hook that records each call. It is safe for concurrent use.
type operations struct {
	base   []attribute.KeyValue
	record metric.Float64Histogram
	off    atomic.Bool // a hook cannot be removed

	mu     sync.Mutex // of changes
	series atomic.Pointer[map[operation][]metric.RecordOption]
}

// operations adds the hook to the client of WithOperations.
func (s *settings) operations(meter metric.Meter) (*operations, error) {
	h, err := meter.Float64Histogram(operationDuration, metric.WithDescription("How long calls took, failed ones and waits as well."), metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(seconds(s.limits(operationBuckets))...))
	if err != nil {
		return nil, err
	}
	o := &operations{record: h}
	o.series.Store(&map[operation][]metric.RecordOption{})
	o.base = []attribute.KeyValue{semconv.DBSystemNameRedis, semconv.DBClientConnectionPoolName(s.client)}
	if single, ok := s.ops.(interface{ Options() *redis.Options }); ok {
		opt := single.Options()
		o.base = append(o.base, semconv.DBNamespace(strconv.Itoa(opt.DB)))
		if opt.Addr != "FailoverClient" { // go-redis uses this for an address that changes
			o.base = append(o.base, server(opt.Addr)...)
		}
	}
	o.base = append(o.base, s.attrs...)
	s.ops.AddHook(o)
	return o, nil
}

func (o *operations) DialHook(next redis.DialHook) redis.DialHook { return next }

func (o *operations) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if o.off.Load() {
			return next(ctx, cmd)
		}
		began := time.Now()
		err := next(ctx, cmd)
		o.add(ctx, time.Since(began), operationOf(cmd), err)
		return err
	}
}

func (o *operations) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if o.off.Load() {
			return next(ctx, cmds)
		}
		began := time.Now()
		err := next(ctx, cmds)
		took, failed := time.Since(began), err
		for i := 0; i < len(cmds) && (failed == nil || errors.Is(failed, redis.Nil)); i++ {
			failed = cmds[i].Err()
		}
		o.add(ctx, took, batchOf(cmds), failed)
		return err
	}
}

func (o *operations) add(ctx context.Context, took time.Duration, name string, err error) {
	key := operation{name: name}
	key.failure, key.status = failureOf(err)
	if key.status == "ERR" && redis.HasErrorPrefix(err, "unknown command") {
		key.name = other // a caller's mistake, which may be any text
	}
	opts, ok := (*o.series.Load())[key]
	if !ok {
		opts = o.open(key)
	}
	o.record.Record(ctx, took.Seconds(), opts...)
}

// open returns the attributes of a series, and creates them the first time.
func (o *operations) open(key operation) []metric.RecordOption {
	o.mu.Lock()
	defer o.mu.Unlock()
	series := *o.series.Load()
	if len(series) >= maxOperations {
		key.name = other
	}
	if opts, ok := series[key]; ok {
		return opts
	}
	attrs := append(o.base[:len(o.base):len(o.base)], semconv.DBOperationName(key.name))
	if key.failure != "" {
		attrs = append(attrs, attribute.String(string(semconv.ErrorTypeKey), key.failure))
	}
	if key.status != "" {
		attrs = append(attrs, semconv.DBResponseStatusCode(key.status))
	}
	series = maps.Clone(series)
	series[key] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
	o.series.Store(&series)
	return series[key]
}

// operationOf returns the command's name, as go-redis sends it; other if it cannot be a name,
// because it may then be anything, even an argument.
func operationOf(cmd redis.Cmder) string {
	name := cmd.Name()
	if name == "" || len(name) > 40 {
		return other
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
			return other
		}
	}
	return name
}

// batchOf names a pipeline or transaction according to the conventions: with its command, if all
// commands are the same.
func batchOf(cmds []redis.Cmder) string {
	kind := "PIPELINE"
	if len(cmds) > 2 && cmds[0].Name() == "multi" {
		kind, cmds = "MULTI", cmds[1:len(cmds)-1]
	}
	if len(cmds) == 0 {
		return kind
	}
	name := operationOf(cmds[0])
	for _, c := range cmds[1:] {
		if operationOf(c) != name {
			return kind
		}
	}
	return kind + " " + name
}

// failureOf returns the error.type and the db.response.status_code of an error.
func failureOf(err error) (failure, status string) {
	var refused redis.Error
	var network net.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return "", ""
	case errors.Is(err, redis.TxFailedErr):
		return "transaction_failed", ""
	case errors.Is(err, retry.ErrUnknownOutcome):
		return "unknown_outcome", ""
	case errors.Is(err, retry.ErrBreakerOpen):
		return "breaker_open", ""
	case errors.Is(err, redis.ErrPoolTimeout):
		return "pool_timeout", ""
	case errors.Is(err, redis.ErrClosed):
		return "client_closed", ""
	case errors.Is(err, context.Canceled):
		return "canceled", ""
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout", ""
	case errors.As(err, &refused):
		word, _, _ := strings.Cut(refused.Error(), " ")
		if word == "" || len(word) > 32 || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
			return other, "" // a script's own text
		}
		return word, word
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), network != nil:
		return "connection", ""
	}
	return other, ""
}
