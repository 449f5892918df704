package retry_test

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// losing returns a proxy that loses the first reply to a request with EVAL in it.
func losing(t *testing.T, s *redistest.Server) *redistest.Proxy {
	p := redistest.NewProxy(t, s.Addr())
	var lost atomic.Bool
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if bytes.Contains(bytes.ToLower(b), []byte("eval")) && lost.CompareAndSwap(false, true) {
			return redistest.CutAfter
		}
		return redistest.Forward
	})
	return p
}

func TestAClassifierDecidesForCommandsInPipelinesAndTransactionsToo(t *testing.T) {
	s := redistest.Start(t)
	const pure = "return 7"
	run := map[string]func(rdb *redis.Client) error{
		"command": func(rdb *redis.Client) error { return rdb.Eval(t.Context(), pure, nil).Err() },
		"pipeline": func(rdb *redis.Client) error {
			_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Eval(t.Context(), pure, nil)
				p.Ping(t.Context())
				return nil
			})
			return err
		},
		"transaction": func(rdb *redis.Client) error {
			_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Eval(t.Context(), pure, nil)
				return p.Ping(t.Context()).Err()
			})
			return err
		},
	}
	for name, send := range run {
		for class, again := range map[retry.Safety]bool{retry.ReadOnly: true, retry.IdempotentWrite: true, retry.Unsafe: false,
			retry.Safety(-1): false, retry.Safety(42): false} {
			policy := quick()
			policy.Classify = func(cmd redis.Cmder) retry.Safety {
				if cmd.Name() == "eval" {
					return class
				}
				return retry.SafetyOf(cmd)
			}
			rdb, _ := attach(t, bare(s, losing(t, s).Addr()), policy)
			rdb.Ping(within(t, time.Second))
			err := send(rdb)
			if again && err != nil || !again && !errors.Is(err, retry.ErrUnknownOutcome) {
				t.Errorf("%s, class %d: %v", name, class, err)
			}
		}
	}
}
