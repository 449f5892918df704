package retry_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestAQueryOfTheSlotMapThatIsNotAnsweredIsNoCommandThatWasSent(t *testing.T) {
	s := redistest.Start(t, "--cluster-enabled", "yes")
	p := redistest.NewProxy(t, s.Addr())
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if bytes.Contains(bytes.ToLower(b), []byte("slots")) {
			return redistest.Drop
		}
		return redistest.Forward
	})
	policy := quick()
	policy.MaxAttempts = 2
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{p.Addr()}, MaxRetries: -1, ReadTimeout: 100 * time.Millisecond})
	defer rdb.Close()
	if _, err := retry.Attach(rdb, policy); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Second)
	err := rdb.Incr(ctx, "n").Err()
	if err == nil || errors.Is(err, retry.ErrUnknownOutcome) || retry.OutcomeOf(err) != retry.NotSent {
		t.Errorf("%T %v: %v", err, err, retry.OutcomeOf(err))
	}
}
