package retry_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// OutcomeOf takes the error of a ctx for a command that was not sent.
func TestContractTheErrorOfACtxIsReturnedOnlyWhileWaitingForAConnection(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	for _, obey := range []bool{true, false} {
		opt := &redis.Options{Addr: p.Addr(), MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1, ContextTimeoutEnabled: obey, ReadTimeout: time.Second}
		rdb := redis.NewClient(opt)
		defer rdb.Close()
		conn := rdb.Conn()
		if err := conn.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := rdb.Incr(ctx, "n").Err(); err != context.DeadlineExceeded {
			t.Errorf("while the command waits for the pool, go-redis no longer returns the error of the ctx as it is: %T %v", err, err)
		}
		conn.Close()
		p.Stall(true)
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := rdb.Incr(ctx, "n").Err()
		var ne net.Error
		if errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("while the command is in flight, go-redis now returns %T %v: OutcomeOf would take that for a command that was not sent", err, err)
		}
		p.Stall(false)
	}
}
