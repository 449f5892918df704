package managed_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// While a server is unreachable, one attempt at a time is made, whoever waits.
func TestWhileAServerIsUnreachableOneAttemptAtATimeIsMade(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var now, most int
	var begun []time.Time
	known := false
	opt := &redis.Options{Addr: "127.0.0.1:1", PoolSize: 30, MinIdleConns: 5,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			mu.Lock()
			now++
			if known {
				most = max(most, now)
				begun = append(begun, time.Now())
			}
			mu.Unlock()
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			mu.Lock()
			now--
			known = true
			mu.Unlock()
			return nil, errors.New("nobody is there")
		}}
	c := client(t, opt, managed.WithMaxAge(100*time.Millisecond), managed.WithHeartbeat(50*time.Millisecond))
	require.Error(t, c.Ping(deadline(t, 100*time.Millisecond)).Err())
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := c.Ping(deadline(t, 3*time.Second)).Err(); err == nil {
				t.Error("no error")
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(begun); i++ {
		gaps = append(gaps, begun[i].Sub(begun[i-1]).Round(time.Millisecond))
	}
	t.Logf("%d attempts in 3 s, at most %d at a time; pauses at first %v, in the end %v", len(begun), most, gaps[:3], gaps[len(gaps)-3:])
	require.LessOrEqual(t, most, 1)
	require.Less(t, len(begun), 300)
	require.Greater(t, gaps[len(gaps)-1], gaps[0])
}

func deadline(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAfterAnOutageTheFirstCommandSucceedsAtOnceAndNobodyHasFailed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = d.addr, 20
	c := client(t, opt)
	burst(t, c, 20)
	var first []time.Duration
	for range 5 {
		var failed atomic.Int64
		var lastErr atomic.Pointer[error]
		ok := make(chan time.Time, 200)
		d.shut()
		time.Sleep(20 * time.Millisecond)
		opened := d.accepted.Load()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				var err error
				if i%2 == 0 {
					err = c.Set(ctx, "key", i, 0).Err()
				} else {
					err = c.Get(ctx, "key").Err()
				}
				if err != nil && !errors.Is(err, redis.Nil) {
					failed.Add(1)
					lastErr.Store(&err)
				} else {
					ok <- time.Now()
				}
			})
		}
		time.Sleep(600 * time.Millisecond)
		back := d.open()
		first = append(first, (<-ok).Sub(back))
		wg.Wait()
		if failed.Load() > 0 {
			t.Errorf("%d of 200 failed: %v", failed.Load(), *lastErr.Load())
		}
		// One more for the prober, and one for a fresh connection if somebody is suspected.
		require.LessOrEqual(t, int(d.accepted.Load()-opened), opt.PoolSize+2, "connections opened by 200 callers")
		t.Logf("first success %v after the server's return, %d connections for 200 callers", first[len(first)-1], d.accepted.Load()-opened)
	}
	slices.Sort(first)
	t.Logf("first success after %v, median %v", first, first[len(first)/2])
	require.Less(t, first[len(first)/2], 150*time.Millisecond)
}

// go-redis counts failed dials and after PoolSize of them refuses
// everybody until its own probe, once a second, succeeds.
func TestMoreFailedDialsThanPoolSizeLeaveNoTail(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.MinIdleConns = d.addr, 3, 2
	c := client(t, opt)
	for round := range 3 {
		d.shut()
		for range 20 { // one after the other
			began := time.Now()
			require.Error(t, c.Ping(deadline(t, 15*time.Millisecond)).Err())
			require.Less(t, redistest.Took(began), 100*time.Millisecond, "no loop of 5 x 100 ms")
		}
		back := d.open()
		require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
		t.Logf("round %d: first success after %v", round, time.Since(back))
		require.Less(t, redistest.Took(back), 300*time.Millisecond)
		for range 10 {
			began := time.Now()
			require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
			require.Less(t, redistest.Took(began), 200*time.Millisecond, "nobody waits for a probe, once a second")
		}
	}
}

// A caller waits no longer than its own ctx, and holds no slot of the pool.
func TestCallersOfAnUnreachableServerWaitWithinTheirOwnTime(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.PoolTimeout = d.addr, 3, 100*time.Millisecond
	c := client(t, opt)
	require.NoError(t, c.Ping(t.Context()).Err())
	good, err := c.Acquire(t.Context())
	require.NoError(t, err)
	d.close()
	require.Error(t, c.Ping(deadline(t, 100*time.Millisecond)).Err()) // until a dial has failed, callers queue
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			limit := time.Duration(50+i) * time.Millisecond
			began := time.Now()
			err := c.Ping(deadline(t, limit)).Err()
			if took := redistest.Took(began); err == nil || errors.Is(err, redis.ErrPoolTimeout) || took > limit+200*time.Millisecond {
				t.Errorf("a ctx of %v: %v after %v", limit, err, took)
			}
		})
	}
	time.Sleep(30 * time.Millisecond)
	require.NoError(t, good.Ping(t.Context()).Err(), "what is open works on")
	wg.Wait() // otherwise it serves one of them, and is closed if the time of that one is over just then
	good.Release()
	require.Eventually(t, func() bool { return c.PoolStats().IdleConns == 1 }, 30*time.Second, time.Millisecond)
	require.NoError(t, c.Ping(deadline(t, time.Second)).Err(), "and serves everybody")
}

func TestWhileTheServerRefusesConnectionsNoWorkingOneIsClosed(t *testing.T) {
	for _, why := range []string{"maxclients", "the listener is gone", "connections are cut at once", "the password has changed"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, "--maxclients", "16")
			s.Admin().Ping(t.Context())
			s.NumClients(t)
			d := newDoor(t, s.Addr())
			p := redistest.NewProxy(t, d.addr)
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.ReadTimeout = d.addr, 10, time.Second
			var ev events
			if why == "the password has changed" {
				require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", "on", ">old", "~*", "+@all").Err())
				opt.Username, opt.Password = "app", "old"
			}
			if why == "connections are cut at once" {
				opt.Addr = p.Addr()
			}
			c := client(t, opt, ev.option(), managed.WithMaxAgeJitter(0))
			burst(t, c, 5)
			old := ids(c)
			ends := func() (out []hooks.Event) { // of those that worked
				for _, e := range ev.of(hooks.Closed) {
					if old[e.ConnID] {
						out = append(out, e)
					}
				}
				return out
			}
			var others []net.Conn
			switch why {
			case "maxclients":
				for s.NumClients(t) < 15 { // and the judge
					nc, err := net.Dial("tcp", s.AdminAddr())
					require.NoError(t, err)
					others = append(others, nc)
					time.Sleep(5 * time.Millisecond)
				}
			case "the listener is gone":
				d.close()
			case "the password has changed":
				require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", "resetpass", ">new").Err())
			default:
				p.RefuseNew(true)
			}
			// Somebody needs a sixth connection, and finds out.
			var held []*managed.Conn
			for range 5 {
				conn, err := c.Acquire(deadline(t, time.Second))
				require.NoError(t, err)
				held = append(held, conn)
			}
			_, err := c.Acquire(deadline(t, 300*time.Millisecond))
			require.Error(t, err)
			for _, conn := range held {
				conn.Release()
			}
			require.True(t, c.Node().ClosedToNew())
			c.SetMaxAge(50 * time.Millisecond)
			c.SetMaxIdle(100 * time.Millisecond)
			for range 20 {
				require.NoError(t, c.Ping(t.Context()).Err())
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(1200 * time.Millisecond) // in silence, too, and although it is asked again
			require.Emptyf(t, ends(), "%v", ends())
			for range 20 {
				require.NoError(t, c.Ping(t.Context()).Err())
			}
			switch why { // room again
			case "maxclients":
				for _, nc := range others {
					nc.Close()
				}
			case "the listener is gone":
				d.open()
			case "the password has changed":
				require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", ">old").Err())
			default:
				p.RefuseNew(false)
			}
			began := time.Now()
			redistest.Eventually(t, "the old ones end", soon, func() bool { return len(ends()) == 5 })
			t.Logf("with room again the old ones end %v later, with nobody calling: %v", time.Since(began), c.CloseReasons())
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

func TestExcessIdleConnectionsAreKeptWhileTheServerRefusesNewOnesAndThenClosed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = d.addr, 10
	var ev events
	c := client(t, opt, ev.option(), managed.WithMaxIdle(200*time.Millisecond))
	burst(t, c, 5)
	d.close()
	var held []*managed.Conn
	for range 5 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	_, err := c.Acquire(deadline(t, 50*time.Millisecond))
	require.Error(t, err)
	for _, conn := range held {
		conn.Release()
	}
	time.Sleep(time.Second)
	require.Emptyf(t, ev.of(hooks.Closed), "%v", ev.of(hooks.Closed))
	d.open()
	ev.wait(t, hooks.Closed, 5)
	require.EqualValues(t, 5, c.CloseReasons()[hooks.ReasonIdle])
}
