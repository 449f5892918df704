package integration_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// way is one way to send writes: it sends those of the given keys, which count
// up once each, and says what it was told of each of them.
type way struct {
	name string
	keys int
	send func(ctx context.Context, rdb *managed.Client, keys []string) []error
}

func errsOf(cmds []redis.Cmder, err error, n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
		if i < len(cmds) {
			errs[i] = cmds[i].Err()
		}
	}
	return errs
}

// unknownSaid makes ErrUnknownOutcome of what only OutcomeOf calls unknown: on
// connections of one's own the error is the connection's.
func unknownSaid(err error) error {
	if err != nil && retry.OutcomeOf(err) == retry.Unknown {
		return fmt.Errorf("%w: %w", retry.ErrUnknownOutcome, err)
	}
	return err
}

var ways = []way{
	{"pipelines of 100 mixed commands", 25, func(ctx context.Context, rdb *managed.Client, keys []string) []error {
		cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range keys {
				p.Incr(ctx, k)
				p.Set(ctx, "set:"+k, k, 0)
				p.Get(ctx, "set:"+k)
				p.HSet(ctx, "hash", k, k)
			}
			return nil
		})
		errs := make([]error, len(keys))
		for i, k := range keys {
			errs[i] = cmds[4*i].Err()
			if get := cmds[4*i+2].(*redis.StringCmd); get.Err() == nil && get.Val() != k {
				errs[i] = fmt.Errorf("GET after SET in one pipeline is %q, not %q", get.Val(), k)
			}
		}
		return errs
	}},
	{"transactions", 3, func(ctx context.Context, rdb *managed.Client, keys []string) []error {
		cmds, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for _, k := range keys {
				p.Incr(ctx, k)
			}
			return nil
		})
		return errsOf(cmds, err, len(keys))
	}},
	{"Watch", 1, func(ctx context.Context, rdb *managed.Client, keys []string) []error {
		runs := 0
		err := rdb.Watch(ctx, func(tx *redis.Tx) error {
			if runs++; runs > 1 {
				return errors.New("the function of a Watch was called again")
			}
			if err := tx.Get(ctx, keys[0]).Err(); err != nil && err != redis.Nil {
				return fmt.Errorf("before EXEC: %v", err)
			}
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, keys[0]); return nil })
			return err
		}, keys[0])
		return []error{err}
	}},
	{"leases", 2, func(ctx context.Context, rdb *managed.Client, keys []string) []error {
		errs := make([]error, len(keys))
		runs := 0
		err := rdb.AcquireFunc(ctx, func(c *managed.Conn) error {
			if runs++; runs > 1 {
				return errors.New("the function of an AcquireFunc was called again")
			}
			for i, k := range keys {
				errs[i] = unknownSaid(c.Incr(ctx, k).Err())
			}
			return nil
		})
		if err != nil {
			for i := range errs {
				errs[i] = err
			}
		}
		return errs
	}},
	{"clones of WithTimeout", 1, func(ctx context.Context, rdb *managed.Client, keys []string) []error {
		return []error{rdb.WithTimeout(2*time.Second).Incr(ctx, keys[0]).Err()}
	}},
	{"a plain Conn", 2, func(ctx context.Context, rdb *managed.Client, keys []string) []error {
		c := rdb.Conn()
		defer c.Close()
		return []error{c.Incr(ctx, keys[0]).Err(), c.Incr(ctx, keys[1]).Err()}
	}},
}

// Every way to send a write, while all connections are killed 50 times a second.
func TestHoweverItIsSentNoCommandHappensTwiceAndNoneIsLostInSilence(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := redistest.Start(t)
			rdb := guarded(t, s.Options())
			d := lasting(1500*time.Millisecond, 5*time.Second)
			storm(t, s, d, func(ctx context.Context, prefix string, i int) (keys []string, errs []error) {
				for n := range w.keys {
					keys = append(keys, fmt.Sprintf("n:%s:%d:%d", prefix, i, n))
				}
				errs = w.send(ctx, rdb, keys)
				if w.name == "transactions" {
					for _, err := range errs {
						if (err == nil) != (errs[0] == nil) {
							t.Errorf("half a transaction: %v, %v", errs[0], err)
						}
					}
				}
				return keys, errs
			}, func() { _ = rdb.Close() })
		})
	}
}

// storm has 16 callers call send while all connections are killed every 20 ms,
// and reconciles.
func storm(t *testing.T, s *redistest.Server, d time.Duration, send func(ctx context.Context, prefix string, i int) ([]string, []error), end func()) {
	t.Helper()
	ctx := upTo(t, d+30*time.Second)
	until := time.Now().Add(d)
	book := newLedger()
	var rounds atomic.Int64
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := 0; time.Now().Before(until); i++ {
				keys, errs := send(ctx, fmt.Sprint(g), i)
				for n, key := range keys {
					book.note(key, errs[n])
				}
				rounds.Add(1)
			}
		})
	}
	kills := 0
	everyTick(20*time.Millisecond, d, &wg, func() { kills += s.KillClients(t) })
	end()
	v := book.reconcile(t, s)
	example := ""
	for _, err := range book.never {
		example = fmt.Sprintf("; such as %v", err)
		break
	}
	if len(book.certain) == 0 || kills == 0 {
		t.Errorf("%d successes, %d kills", len(book.certain), kills)
	}
	t.Logf("%d rounds, %d connections killed; %v%s", rounds.Load(), kills, v, example)
}

// go-redis's AutoPipeline batches commands of many callers into pipelines.
func TestAnAutoPipelineOnAManagedClientRepeatsNoWrite(t *testing.T) {
	s := redistest.Start(t)
	rdb := guarded(t, s.Options())
	ap, err := rdb.AutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	storm(t, s, lasting(1500*time.Millisecond, 5*time.Second), func(ctx context.Context, prefix string, i int) ([]string, []error) {
		key := fmt.Sprintf("n:%s:%d", prefix, i)
		err := ap.Incr(ctx, key).Err()
		return []string{key}, []error{err}
	}, func() { _ = ap.Close(); _ = rdb.Close() })
}
