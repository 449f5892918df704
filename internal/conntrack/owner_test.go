package conntrack_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

type passHook struct{}

func (passHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (passHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (passHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// countClient makes the rig count the commands that come by the client's own chain.
func countClient(r *rig) *atomic.Int64 {
	n := &atomic.Int64{}
	r.hook.Client = func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		n.Add(1)
		return next(ctx, cmd)
	}
	return n
}

func TestAConnIsNeverTakenForTheClientWhileHooksAreAdded(t *testing.T) {
	r := newRig(t, &redis.Options{Addr: redistest.Start(t).Addr(), PoolSize: 8}, conntrack.Config{})
	client := countClient(r)
	stop, adding := make(chan struct{}), sync.WaitGroup{}
	adding.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				r.hook.Install(r.WithTimeout(0), nil, nil)
				c := r.WithTimeout(0)
				for range 20 {
					c.AddHook(passHook{})
				}
			}
		}
	})
	var conns sync.WaitGroup
	for range 4 {
		conns.Go(func() {
			for range 500 {
				c := r.Conn()
				if err := c.Ping(bg).Err(); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			}
		})
	}
	conns.Wait()
	close(stop)
	adding.Wait()
	if n := client.Load(); n != 0 {
		t.Errorf("%d of 2000 commands of Conns were taken for the client's", n)
	}
}

func TestTheClientIsKnownWhoeverAddsHooksToIt(t *testing.T) {
	r := newRig(t, &redis.Options{Addr: redistest.Start(t).Addr()}, conntrack.Config{})
	client := countClient(r)
	for i := range 3 {
		r.Client.AddHook(passHook{}) // as a library does that gets the plain client
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		if n := client.Load(); n != int64(i)+1 {
			t.Fatalf("after %d hooks %d commands were the client's, want %d", i+1, n, i+1)
		}
	}
	clone := r.WithTimeout(0)
	r.hook.Install(clone, nil, nil)
	clone.AddHook(passHook{})
	if err := clone.Ping(bg).Err(); err != nil || client.Load() != 4 {
		t.Errorf("a command of a clone: %v, %d of 4 were the client's", err, client.Load())
	}
	refused := redis.ErrClosed
	r.tracker.Refuse(refused)
	for name, p := range map[string]redis.Pipeliner{"pipeline": r.Pipeline(), "transaction": r.TxPipeline()} {
		p.Ping(bg)
		if _, err := p.Exec(bg); err != refused {
			t.Errorf("a %s of the client that refuses work: %v", name, err)
		}
	}
	conn := r.Conn()
	defer conn.Close()
	if _, err := conn.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil }); err != nil {
		t.Errorf("the pipeline of a Conn: %v", err)
	}
}

func TestVisitsThatWaitTakeNoPlace(t *testing.T) {
	const waiting = 6000 // more than there are places
	r := newRig(t, &redis.Options{Addr: redistest.Start(t).Addr(), PoolSize: 2}, conntrack.Config{})
	var held []*redis.Conn
	for range 2 {
		c := r.Conn()
		if _, err := r.node.Acquire(bg, c, nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	var all sync.WaitGroup
	for range waiting {
		all.Go(func() {
			c := r.Conn()
			if _, err := r.node.Acquire(bg, c, nil); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		})
	}
	for r.node.Main().Waiting < waiting/2 {
		if t.Failed() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, c := range held {
		_ = c.Close()
	}
	all.Wait()
	if n := conntrack.Places(); n != 0 {
		t.Errorf("%d places are taken although no visit is under way", n)
	}
}

// Only as many calls as can dial need somebody who goes on for them when their ctx ends.
func TestAcquiresThatWaitForThePoolStartNoGoroutineEach(t *testing.T) {
	const waiting = 200
	opt := &redis.Options{Addr: "127.0.0.1:1", PoolSize: 2, PoolTimeout: time.Minute, DialTimeout: time.Minute}
	opt.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	r := newRig(t, opt, conntrack.Config{})
	ctx, cancel := context.WithCancel(bg)
	var all sync.WaitGroup
	for range waiting {
		all.Go(func() {
			if _, err := r.node.Acquire(ctx, r.Conn(), nil); !errors.Is(err, context.Canceled) {
				t.Errorf("an Acquire ends with %v", err)
			}
		})
	}
	redistest.Eventually(t, "all of them wait", 30*time.Second, func() bool { return r.node.Main().Waiting >= waiting-opt.PoolSize })
	if n := r.node.Pinned(); n > waiting/4 {
		t.Errorf("%d of %d calls have a goroutine of their own", n, waiting)
	}
	cancel()
	all.Wait()
}
