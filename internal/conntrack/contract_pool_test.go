package conntrack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// Counts recognises the excess, and finds the idle one.
func TestContractIdleConnsCountsWhatIsBeingDialedForMinIdleConns(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PipelinePoolSize = -1
	opt.MinIdleConns = 2
	hold, held := make(chan struct{}), make(chan struct{}, 8)
	first, dial := make(chan struct{}, 1), redis.NewDialer(opt)
	first <- struct{}{}
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		select {
		case <-first:
		default:
			held <- struct{}{}
			<-hold
		}
		return dial(ctx, network, addr)
	}
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	defer close(hold)
	<-held
	var st *redis.PoolStats
	for range 500 {
		if st = rdb.PoolStats(); st.TotalConns == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if st.TotalConns != 1 || st.IdleConns != 2 {
		t.Errorf("with one of two MinIdleConns still being dialed go-redis counts %d connections, %d of them idle, and not 1 and 2: look at counts()", st.TotalConns, st.IdleConns)
	}
	if c := conntrack.CountsOf(st); c.Idle != 1 || c.InUse != 0 {
		t.Errorf("Counts are %+v", c)
	}
}

// Whether it shows at a given moment is chance, so it is our clamp that is tested.
func TestContractIdleConnsMayUnderflowAndCountsNeverDo(t *testing.T) {
	for _, x := range []struct {
		name  string
		stats redis.PoolStats
		want  conntrack.Counts
	}{
		{"underflow", redis.PoolStats{TotalConns: 5, IdleConns: math.MaxUint32}, conntrack.Counts{Total: 5, InUse: 5}},
		{"more idle than total", redis.PoolStats{TotalConns: 5, IdleConns: 6}, conntrack.Counts{Total: 5, Idle: 5}},
		{"usual", redis.PoolStats{TotalConns: 5, IdleConns: 2, PendingRequests: 7}, conntrack.Counts{Total: 5, Idle: 2, InUse: 3, Waiting: 7}},
		{"all idle", redis.PoolStats{TotalConns: 5, IdleConns: 5}, conntrack.Counts{Total: 5, Idle: 5}},
	} {
		if got := conntrack.CountsOf(&x.stats); got != x.want {
			t.Errorf("%s: %+v gives %+v, want %+v", x.name, x.stats, got, x.want)
		}
	}
	if got := conntrack.CountsOf(nil); got != (conntrack.Counts{}) {
		t.Errorf("no pool at all gives %+v", got)
	}

	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.Ping(bg)
				}
			}
		})
	}
	for range 5000 {
		if c := r.node.Main(); c.Idle < 0 || c.Idle > c.Total || c.InUse < 0 || c.InUse+c.Idle != c.Total {
			t.Errorf("Main() = %+v: not a possible state of a pool", c)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func TestContractAConnHoldsNothingBeforeItsFirstCommand(t *testing.T) {
	s := redistest.Start(t)
	c, rs := bare(t, s.Options())
	conn := c.Conn()
	defer conn.Close()
	if len(rs.list()) != 0 || c.PoolStats().TotalConns != 0 {
		t.Error("Client.Conn() takes a connection by itself: an Acquire need not visit any more")
	}
	conn.Ping(bg)
	if st := c.PoolStats(); st.TotalConns != 1 || st.IdleConns != 0 {
		t.Errorf("after its first command a Conn holds %d connections with %d idle, want 1 and 0: a lease would not be exclusive", st.TotalConns, st.IdleConns)
	}
	_ = conn.Close()
	if st := c.PoolStats(); st.IdleConns != 1 {
		t.Errorf("Conn.Close gives nothing back (idle %d): a Release would leak the slot", st.IdleConns)
	}
}

func TestContractAConnIsDeadAfterOneNetworkError(t *testing.T) {
	s := redistest.Start(t)
	c, rs := bare(t, s.Options())
	conn := c.Conn()
	defer conn.Close()
	conn.Ping(bg)
	rs.list()[0].on(func(x call) error {
		if x.name == "Write" {
			return io.EOF
		}
		return nil
	})
	if err := conn.Ping(bg).Err(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want EOF", err)
	}
	if err := conn.Ping(bg).Err(); err == nil {
		t.Error("a Conn picks another connection after a network error: a lease would silently change its connection")
	}
	if st := c.PoolStats(); st.TotalConns != 1 {
		t.Errorf("a Conn that has failed leaves the pool with %d connections before its Close, want 1: mayWait counts on it", st.TotalConns)
	}
	_ = conn.Close()
	if st := c.PoolStats(); st.TotalConns != 0 {
		t.Errorf("after a refused write on a Conn and its Close %d connections remain, want 0: hooks.End no longer removes connections", st.TotalConns)
	}
}

func TestContractConnCloseGivesDirtyStateBack(t *testing.T) {
	s := redistest.Start(t)
	c, _ := bare(t, s.Options())
	conn := c.Conn()
	conn.Do(bg, "MULTI")
	_ = conn.Close()
	if got, _ := c.Do(bg, "GET", "k").Text(); got != "QUEUED" {
		t.Errorf("GET after a MULTI left on a Conn gives %q: go-redis cleans connections itself now, the dirty check may go", got)
	}
}

func TestContractDialHooksMissTheConnectionsOfMinIdleConns(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.MinIdleConns = 3
	c, rs := bare(t, opt)
	redistest.Eventually(t, "Options.Dialer sees the dials of MinIdleConns: else their connections are not tracked", soon, func() bool {
		return len(rs.list()) >= 3
	})
	late := &dialHook{}
	c.AddHook(late)
	if err := c.Ping(bg).Err(); err != nil {
		t.Fatal(err)
	}
	if n := late.dials.Load(); n > 1 {
		t.Errorf("a DialHook added later saw %d dials for one command on warm connections", n)
	}
}

func TestContractTheDialerOfNewDialerHasKeepalive(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.DialTimeout = time.Second
	c, err := redis.NewDialer(opt)(bg, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !keepsAlive(t, c) {
		t.Error("redis.NewDialer no longer turns TCP keepalive on: baseDialer has to")
	}
	n := conntrack.NewTracker(conntrack.Config{}).NewNode(opt)
	_ = n
	mine, err := opt.Dialer(bg, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	if !keepsAlive(t, mine) {
		t.Error("tracked connections have no TCP keepalive")
	}
}

func TestContractTheDialerNeverSeesTheCaller(t *testing.T) {
	type key struct{}
	s := redistest.Start(t)
	opt := s.Options()
	opt.DialTimeout = 2 * time.Second
	opt.DialerRetries = 3
	opt.DialerRetryTimeout = time.Millisecond
	opt.PoolSize = 1
	var calls atomic.Int32
	saw := make(chan any, 1)
	hold := make(chan struct{})
	var release sync.Once
	defer release.Do(func() { close(hold) })
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch calls.Add(1) {
		case 1:
			saw <- ctx.Value(key{})
			<-hold
		case 3: // a pool whose dials all fail goes on by itself
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return nil, errors.New("no")
	}
	c, _ := bare(t, opt)
	ctx, cancel := context.WithTimeout(context.WithValue(bg, key{}, "caller"), 50*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx).Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller whose ctx ends during a dial gets %v: it no longer leaves at once, the hook's wait for the gate has to be looked at", err)
	}
	if v := <-saw; v != nil {
		t.Errorf("the Dialer sees the caller's ctx (%v): the dial gate could wait there", v)
	}
	// The slot stays taken although the caller has gone.
	full := conntrack.NoWait(bg)
	if err := c.Ping(full).Err(); !errors.Is(err, conntrack.ErrWouldWait) {
		t.Errorf("with the only slot in a dial that nobody waits for a command gets %v, want ErrWouldWait: the gate may hold dials for longer", err)
	}
	release.Do(func() { close(hold) })
	redistest.Eventually(t, "the Dialer is called DialerRetries times", soon, func() bool { return calls.Load() >= 3 })
}

// NoWait rests on when go-redis asks a ctx for Done.
func TestContractACtxWithoutDoneOnceTakesAFreeSlotAndNeverWaits(t *testing.T) {
	s := redistest.Start(t)
	for _, ctxTimeouts := range []bool{false, true} {
		opt := s.Options()
		opt.PoolSize = 1
		opt.PoolTimeout = soon
		opt.ContextTimeoutEnabled = ctxTimeouts
		c, _ := bare(t, opt)
		c.Ping(bg)
		if err := c.Ping(conntrack.NoWait(bg)).Err(); err != nil {
			t.Errorf("with an idle connection a NoWait ctx gives %v: go-redis asks for Done more than once before it takes a free slot, visits and TryAcquire fail", err)
		}
		conn := c.Conn()
		defer conn.Close()
		if err := conn.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err := c.Ping(conntrack.NoWait(bg)).Err()
		if !errors.Is(err, conntrack.ErrWouldWait) {
			t.Errorf("on a full pool a NoWait ctx gives %v, want ErrWouldWait: visits and TryAcquire would wait", err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("on a full pool a NoWait ctx took %v, want no time at all", d)
		}
		if n := c.PoolStats().Timeouts; n != 0 {
			t.Errorf("a NoWait ctx on a full pool counts as %d timeouts: visits would show as pool timeouts in users' metrics", n)
		}
	}
}

func TestVisitsOnAFullPoolReturnAtOnceAndCountNoTimeout(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 2
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 2)
	a, _ := r.lease(t)
	defer a.Close()
	b, _ := r.lease(t)
	defer b.Close()
	for range 5 {
		if c, removed, err := r.visit(hooks.PoolMain); c != nil || removed || !errors.Is(err, conntrack.ErrWouldWait) {
			t.Fatalf("Visit of a full pool = %v, %v, %v", c, removed, err)
		}
	}
	conn := r.Conn()
	defer conn.Close()
	if _, err := r.node.Acquire(conntrack.NoWait(bg), conn, nil); !errors.Is(err, conntrack.ErrWouldWait) {
		t.Errorf("Acquire without waiting on a full pool: %v", err)
	}
	if st := r.PoolStats(); st.Timeouts != 0 || st.TotalConns != 2 {
		t.Errorf("Timeouts %d, TotalConns %d, want 0 and 2", st.Timeouts, st.TotalConns)
	}
}

func TestAVisitWithoutAnIdleConnectionDialsAtMostOneInTheBackground(t *testing.T) {
	s := redistest.Start(t)
	for _, pool := range []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline} {
		r := newRig(t, s.Options(), conntrack.Config{})
		_, _, err := r.visit(pool)
		if err != nil && !errors.Is(err, conntrack.ErrWouldWait) {
			t.Errorf("%v: Visit of an empty pool: %v", pool, err)
		}
		redistest.Eventually(t, "the dial in the background is over", soon, func() bool { return r.node.Dialing() == 0 })
		if n, _ := r.node.Dials(); n > 1 {
			t.Errorf("%v: one visit of an empty pool dialed %d times", pool, n)
		}
	}
}

func TestContractWithTimeoutClonesShareThePoolsAndHaveNoHooks(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	lim := &countingLimiter{}
	opt.Limiter = lim
	c, rs := bare(t, opt)
	h := &countingHook{}
	c.AddHook(h)
	c.Ping(bg)
	h.take()
	before := lim.allowed.Load()
	m := c.WithTimeout(time.Second)
	m.Options().Limiter = nil
	if err := m.Ping(bg).Err(); err != nil {
		t.Fatal(err)
	}
	if seen := h.take(); len(seen) > 0 {
		t.Errorf("a WithTimeout clone has its parent's hooks (saw %v): users' hooks would see every visit", seen)
	}
	if len(rs.list()) != 1 {
		t.Errorf("a WithTimeout clone dials connections of its own (%d in all): visits would not reach the client's pool", len(rs.list()))
	}
	if lim.allowed.Load() != before {
		t.Error("a clone asks its parent's Limiter although that was taken off its own options: visits would count as traffic")
	}
	c.Ping(bg)
	if lim.allowed.Load() == before {
		t.Error("taking the Limiter off a clone's options takes it off the client's: Bind would switch the user's limiter off")
	}
}

// The maintenance client.
func TestVisitsAreSeenByNoHookAndNoLimiter(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	lim := &countingLimiter{}
	opt.Limiter = lim
	r := newRig(t, opt, conntrack.Config{})
	h := &countingHook{}
	r.AddHook(h)
	r.fill(t, 3)
	if _, err := r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil }); err != nil {
		t.Fatal(err)
	}
	h.take()
	before := [2]int64{lim.allowed.Load(), lim.reported.Load()}
	for i := range 6 {
		if i == 3 {
			r.conns()[0].Evict(hooks.ReasonReset)
		}
		if _, _, err := r.visit(hooks.PoolMain); err != nil && i < 3 {
			t.Fatal(err)
		}
	}
	if _, _, err := r.visit(hooks.PoolPipeline); err != nil {
		t.Fatal(err)
	}
	conn, _ := r.lease(t)
	if seen := h.take(); len(seen) > 0 {
		t.Errorf("a user's hook saw %v of visits and an Acquire, want nothing", seen)
	}
	_ = conn.Close()
	// An Acquire on a Conn is not bound by the Limiter of the client: it has none of its own to ask.
	if after := [2]int64{lim.allowed.Load(), lim.reported.Load()}; after[0]-before[0] > 1 {
		t.Errorf("visits asked the Limiter %d times and reported %d results", after[0]-before[0], after[1]-before[1])
	}
}

type countingLimiter struct{ allowed, reported atomic.Int64 }

func (l *countingLimiter) Allow() error       { l.allowed.Add(1); return nil }
func (l *countingLimiter) ReportResult(error) { l.reported.Add(1) }

// What node.poolOf rests on.
func TestContractTheFirstReadOfAConnectionIsAsLargeAsItsPoolsReadBuffer(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		opt := s.Options()
		opt.Protocol = protocol
		opt.ReadBufferSize = 5000
		opt.PipelineReadBufferSize = 7000
		c, rs := bare(t, opt)
		c.Ping(bg)
		c.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil })
		ps := c.Subscribe(bg, "x")
		defer ps.Close()
		if _, err := ps.Receive(bg); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{5000, 7000, 32 << 10} { // pub/sub always has the default
			for _, x := range rs.list()[i].take() {
				if x.name == "Read" {
					if x.n != want {
						t.Errorf("RESP%d: the first read of connection %d (main, pipeline, pub/sub) is of %d bytes, want the read buffer of its pool, %d: Info().Pool is wrong", protocol, i, x.n, want)
					}
					break
				}
			}
		}
	}
}

func TestThePoolOfAConnectionIsKnownForAllBufferSizes(t *testing.T) {
	s := redistest.Start(t)
	const def = redis.DefaultPipelineBufferSize
	for _, x := range [][2]int{{0, 0}, {4096, 4096}, {32 << 10, 0}, {0, 32 << 10}, {def, 0}, {def, def}, {1 << 20, 0},
		{32<<10 + 64, 32 << 10}, {def + 64, def}, {32 << 10, 32<<10 + 64}, {16, 16}} {
		opt := s.Options()
		opt.ReadBufferSize, opt.PipelineReadBufferSize = x[0], x[1]
		r := newRig(t, opt, conntrack.Config{})
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil }); err != nil {
			t.Fatal(err)
		}
		var got []hooks.Pool
		for _, i := range r.tracker.Conns() {
			got = append(got, i.Pool)
		}
		if !slices.Equal(got, []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline}) {
			t.Errorf("ReadBufferSize %d, PipelineReadBufferSize %d: the pools are %v, want main, pipeline", x[0], x[1], got)
		}
	}
}

// What fReady rests on.
func TestContractOnConnectRunsLastInTheHandshake(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "secret")
	for _, protocol := range []int{2, 3} {
		for _, cached := range []bool{false, true} {
			if cached && protocol == 2 {
				continue
			}
			opt := s.Options()
			opt.Protocol = protocol
			opt.ClientName = "me"
			if cached {
				opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
			} else {
				opt.DB = 2
			}
			var mu sync.Mutex
			var log []string
			note := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				log = append(log, what)
			}
			opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				var d net.Dialer
				c, err := d.DialContext(ctx, network, addr)
				return &writeTap{c, func(b []byte) { note(string(b)) }}, err
			}
			opt.OnConnect = func(ctx context.Context, _ *redis.Conn) error { note("OnConnect"); return nil }
			c, _ := bare(t, opt)
			for _, use := range []struct {
				what string
				run  func() error
			}{
				{"a command", func() error { return c.Echo(bg, "mark").Err() }},
				{"a pipeline", func() error {
					_, err := c.Pipelined(bg, func(p redis.Pipeliner) error { p.Echo(bg, "mark"); return nil })
					return err
				}},
				{"a subscription", func() error {
					ps := c.Subscribe(bg, "mark")
					defer ps.Close()
					_, err := ps.Receive(bg)
					return err
				}},
			} {
				log = nil
				if err := use.run(); err != nil {
					t.Fatalf("%s: %v", use.what, err)
				}
				mu.Lock()
				at := slices.Index(log, "OnConnect")
				if at < 0 {
					t.Errorf("RESP%d: %s: OnConnect is not called (%q): its connection is never ready", protocol, use.what, log)
				} else if len(log) <= at+1 || !bytes.Contains([]byte(log[at+1]), []byte("mark")) {
					t.Errorf("RESP%d cached %v: %s: the handshake goes on after OnConnect (%q): its commands would count as state left by the user", protocol, cached, use.what, log)
				}
				mu.Unlock()
			}
		}
	}
}

// writeTap shows what is written.
type writeTap struct {
	net.Conn
	tap func([]byte)
}

func (w *writeTap) Write(b []byte) (int, error) {
	w.tap(b)
	return w.Conn.Write(b)
}

type dialHook struct {
	countingHook
	dials atomic.Int64
}

func (h *dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		h.dials.Add(1)
		return next(ctx, network, addr)
	}
}
