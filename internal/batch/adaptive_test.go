package batch_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/batch"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// ways counts how commands reach a client: by themselves, or in batches.
type ways struct {
	singles, batches, batched atomic.Int64
	before                    func(cmds []redis.Cmder) // a batch is sent
}

func (w *ways) DialHook(next redis.DialHook) redis.DialHook { return next }
func (w *ways) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "hello", "client", "ping":
		default:
			w.singles.Add(1)
		}
		return next(ctx, cmd)
	}
}
func (w *ways) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if n := cmds[0].Name(); n == "hello" || n == "client" {
			return next(ctx, cmds)
		}
		w.batches.Add(1)
		w.batched.Add(int64(len(cmds)))
		if w.before != nil {
			w.before(cmds)
		}
		return next(ctx, cmds)
	}
}

// adaptive makes a client that batches whatever it may, and one that counts.
func adaptive(t testing.TB, opt *redis.Options, opts ...managed.Option) (redis.UniversalClient, *managed.Client, *ways) {
	t.Helper()
	c := client(t, opt, opts...)
	w := &ways{}
	c.Client.AddHook(w)
	return c.Adaptive(always), c, w
}

func TestEveryCallerGetsItsOwnReply(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	w := &ways{}
	c.Client.AddHook(w)
	a := c.Adaptive()
	callers(t, a, w)
	require.Zero(t, batch.ProbeOf(a).InFlight())
}

func callers(t *testing.T, a redis.UniversalClient, w *ways) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 200 {
				key, value := fmt.Sprint("k", g), fmt.Sprint(g, ".", i)
				if !assert.NoError(t, a.Set(ctx, key, value, 0).Err()) {
					return
				}
				got, err := a.Get(ctx, key).Result() // after its own SET, always
				n, nerr := a.Incr(ctx, fmt.Sprint("n", g)).Result()
				_, missing := a.Get(ctx, "missing").Result()
				wrong := a.LPush(ctx, key, "x").Err()
				if err != nil || got != value || nerr != nil || n != int64(i+1) || missing != redis.Nil ||
					wrong == nil || !strings.HasPrefix(wrong.Error(), "WRONGTYPE") {
					t.Errorf("caller %d, round %d: %q %v, %d %v, %v, %v", g, i, got, err, n, nerr, missing, wrong)
					return
				}
			}
		})
	}
	wg.Wait()
	const all = 64 * 200 * 5
	require.Greater(t, w.batched.Load(), int64(all/2), "batches were made")
	require.Less(t, w.batches.Load(), w.batched.Load()/4)
	require.Equal(t, int64(all), w.batched.Load()+w.singles.Load(), "each was sent once")
}

func TestFewCallersAreSentDirectly(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	w := &ways{}
	c.Client.AddHook(w)
	a := c.Adaptive()
	for range 100 {
		require.NoError(t, a.Set(t.Context(), "k", "v", 0).Err())
	}
	require.Zero(t, w.batches.Load())
	require.EqualValues(t, 100, w.singles.Load())
}

func TestBatchesBeginWithEightCallsInFlightAndEndBelowSix(t *testing.T) {
	opt := redistest.Start(t).Options()
	a := client(t, opt).Adaptive()
	for range 7 {
		require.False(t, batch.ProbeOf(a).Pick())
	}
	for range 5 {
		require.True(t, batch.ProbeOf(a).Pick())
	}
	for n := 11; n > 5; n-- { // n others
		batch.ProbeOf(a).Finish()
		if n > 6 {
			batch.ProbeOf(a).Finish()
			require.True(t, batch.ProbeOf(a).Pick(), n)
		}
	}
	require.EqualValues(t, 6, batch.ProbeOf(a).InFlight())
	batch.ProbeOf(a).Finish()
	batch.ProbeOf(a).Finish()
	require.False(t, batch.ProbeOf(a).Pick())
	for range 2 {
		require.False(t, batch.ProbeOf(a).Pick(), "it takes eight again")
	}
	require.True(t, batch.ProbeOf(a).Pick())

	opt.PoolSize = 2
	a = client(t, opt).Adaptive()
	require.Equal(t, []bool{false, false, true}, []bool{batch.ProbeOf(a).Pick(), batch.ProbeOf(a).Pick(), batch.ProbeOf(a).Pick()}, "calls would wait for a connection")
}

func TestWhatCannotBeBatchedIsSentDirectly(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	soon, cancel := context.WithTimeout(ctx, 900*time.Microsecond)
	defer cancel()
	long := strings.Repeat("x", 9000)
	number := 7
	for name, call := range map[string]func(redis.UniversalClient){
		"blocking":       func(a redis.UniversalClient) { a.BLPop(ctx, 10*time.Millisecond, "none") },
		"a script":       func(a redis.UniversalClient) { a.Eval(ctx, "return 1", nil) },
		"Do":             func(a redis.UniversalClient) { a.Do(ctx, "GET", "k") },
		"Process":        func(a redis.UniversalClient) { _ = a.Process(ctx, redis.NewStringCmd(ctx, "get", "k")) },
		"an iterator":    func(a redis.UniversalClient) { a.HScan(ctx, "h", 0, "", 1) },
		"Never":          func(a redis.UniversalClient) { a.Get(retry.Never(ctx), "k") },
		"Idempotent":     func(a redis.UniversalClient) { a.Incr(retry.Idempotent(ctx), "i") },
		"long":           func(a redis.UniversalClient) { a.Set(ctx, "k", long, 0) },
		"a pointer":      func(a redis.UniversalClient) { a.Set(ctx, "k", &number, 0) },
		"a marshaler":    func(a redis.UniversalClient) { a.Set(ctx, "k", marshaler{}, 0) },
		"no such type":   func(a redis.UniversalClient) { a.Set(ctx, "k", struct{}{}, 0) },
		"a ctx that end": func(a redis.UniversalClient) { a.Get(soon, "k") },
	} {
		t.Run(name, func(t *testing.T) {
			a, _, w := adaptive(t, s.Options())
			call(a)
			require.Zero(t, w.batches.Load())
			require.Zero(t, batch.ProbeOf(a).InFlight())
		})
	}
	a, _, w := adaptive(t, s.Options())
	require.NoError(t, a.Set(ctx, "k", []byte("v"), time.Minute).Err())
	require.EqualValues(t, 1, w.batches.Load(), "while this is batched")
}

type marshaler struct{}

func (marshaler) MarshalBinary() ([]byte, error) { return []byte("m"), nil }

func TestWithAClientSideCacheEverythingIsDirect(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
	c := client(t, opt)
	w := &ways{}
	c.Client.AddHook(w)
	a := c.Adaptive()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				assert.NoError(t, a.Set(t.Context(), "k", "v", 0).Err())
			}
		})
	}
	wg.Wait()
	require.Zero(t, w.batches.Load())
}

func TestAnIteratorGoesOnAfterItsFirstPage(t *testing.T) {
	a, _, _ := adaptive(t, redistest.Start(t).Options())
	ctx := t.Context()
	for i := range 1000 {
		require.NoError(t, a.HSet(ctx, "h", fmt.Sprint("field with a long name ", i), strings.Repeat("x", 70)).Err())
	}
	n := 0
	for it := a.HScan(ctx, "h", 0, "", 10).Iterator(); it.Next(ctx); n++ {
	}
	require.Equal(t, 2000, n)
}

// held is an adaptive client whose batches reach a proxy that holds them back.
func held(t *testing.T, opts ...managed.Option) (redis.UniversalClient, *managed.Client, *redistest.Server, *redistest.Proxy) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = p.Addr()
	opt.ReadTimeout = 30 * time.Second
	opts = append([]managed.Option{managed.WithFailureDetection(managed.FailureDetection{Patience: time.Hour})}, opts...)
	a, c, _ := adaptive(t, opt, opts...)
	require.NoError(t, a.Set(t.Context(), "k", "v", 0).Err())
	return a, c, s, p
}

func TestACtxThatEndsIsObeyedAtOnceAndNobodyGetsTheReply(t *testing.T) {
	a, c, s, p := held(t)
	for i := range 100 {
		require.NoError(t, s.Admin().Set(t.Context(), fmt.Sprint("v", i), fmt.Sprint("value ", i), 0).Err())
	}
	p.Stall(true)
	ctx, cancel := context.WithCancel(t.Context())
	var write *redis.IntCmd
	value := []byte("before")
	var wg sync.WaitGroup
	wg.Go(func() { write = a.Incr(ctx, "n") })
	redistest.Eventually(t, "the batch is under way", soon, func() bool { return p.Conns() > 0 && busyPipelines(c) == 1 })
	results := make([]*redis.StringCmd, 50)
	for i := range results {
		wg.Go(func() { results[i] = a.Get(ctx, fmt.Sprint("v", i)) })
	}
	var appended *redis.IntCmd
	wg.Go(func() { appended = a.RPush(ctx, "bytes", value) })
	redistest.Eventually(t, "all have come", soon, func() bool { return batch.ProbeOf(a).InFlight() == 52 })
	cancel()
	within(t, "the calls return although the server is silent", wg.Wait)
	copy(value, "after.")
	require.ErrorIs(t, write.Err(), context.Canceled)
	require.ErrorIs(t, write.Err(), retry.ErrUnknownOutcome, "it may have been sent")
	require.Zero(t, write.Val())
	for _, r := range results {
		require.ErrorIs(t, r.Err(), context.Canceled)
		require.Empty(t, r.Val())
	}
	require.ErrorIs(t, appended.Err(), context.Canceled)
	p.Stall(false)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			got, err := a.Get(t.Context(), fmt.Sprint("v", i)).Result()
			if err != nil || got != fmt.Sprint("value ", i) {
				t.Errorf("%d: %q, %v", i, got, err)
			}
		})
	}
	all.Wait()
	require.Zero(t, batch.ProbeOf(a).InFlight())
	if v, _ := s.Admin().LIndex(t.Context(), "bytes", 0).Result(); v != "" {
		require.Equal(t, "before", v, "bytes are the caller's again when its call has returned")
		require.ErrorIs(t, appended.Err(), retry.ErrUnknownOutcome)
	}
}

func busyPipelines(c *managed.Client) int {
	n := 0
	for _, i := range c.Conns() {
		if i.State.String() == "busy" {
			n++
		}
	}
	return n
}

func TestNobodyWritesToTheCommandOfACallerWhoGaveUp(t *testing.T) {
	s := redistest.Start(t)
	a, _, w := adaptive(t, s.Options())
	batch.ProbeOf(a).NeverStalled()
	require.NoError(t, a.Set(t.Context(), "k", "v", 0).Err())
	var gate atomic.Pointer[chan struct{}]
	taken := make(chan struct{})
	w.before = func([]redis.Cmder) {
		if g := gate.Load(); g != nil {
			taken <- struct{}{}
			<-*g
		}
	}
	value := []byte("before")
	for _, call := range []func(context.Context) redis.Cmder{
		func(ctx context.Context) redis.Cmder { return a.Get(ctx, "k") },
		func(ctx context.Context) redis.Cmder { return a.RPush(ctx, "list", value) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		closed := make(chan struct{})
		gate.Store(&closed)
		copy(value, "before")
		result := make(chan redis.Cmder, 1)
		go func() { result <- call(ctx) }()
		<-taken
		cancel()
		cmd := <-result
		copy(value, "after.")
		look := func() {
			require.ErrorIs(t, cmd.Err(), context.Canceled)
			if get, ok := cmd.(*redis.StringCmd); ok {
				require.Empty(t, get.Val())
				require.NotErrorIs(t, cmd.Err(), retry.ErrUnknownOutcome, "a read's outcome is of no concern")
			} else {
				require.ErrorIs(t, cmd.Err(), retry.ErrUnknownOutcome)
			}
		}
		look()
		gate.Store(nil)
		close(closed)
		look() // while the batch goes on
		require.NoError(t, a.Incr(t.Context(), "n").Err(), "the next batch")
		look()
	}
	// What was not written when its caller gave up is not written any more.
	require.Subset(t, []string{"before"}, s.Admin().LRange(t.Context(), "list", 0, -1).Val(), "bytes are the caller's again when its call has returned")
}

func TestWhatWasNotSentWhenItsCtxEndsNeverIs(t *testing.T) {
	a, c, s, p := held(t)
	batch.ProbeOf(a).NeverStalled()
	p.Stall(true)
	sent := make(chan error, 1)
	go func() { sent <- a.Incr(t.Context(), "first").Err() }()
	redistest.Eventually(t, "the first is under way", soon, func() bool { return busyPipelines(c) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg, others sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			err := a.Incr(ctx, fmt.Sprint("never", i)).Err()
			if err != context.Canceled {
				t.Errorf("%v, not that of the ctx alone", err)
			}
		})
		others.Go(func() { assert.NoError(t, a.Incr(t.Context(), fmt.Sprint("always", i)).Err()) })
	}
	redistest.Eventually(t, "all wait", soon, func() bool { return batch.ProbeOf(a).Queued() == 100 })
	cancel()
	within(t, "the calls return", wg.Wait)
	p.Stall(false)
	require.NoError(t, <-sent)
	others.Wait()
	for i := range 50 {
		require.Zero(t, must(s.Admin().Exists(t.Context(), fmt.Sprint("never", i)).Result()))
		require.Equal(t, "1", s.Admin().Get(t.Context(), fmt.Sprint("always", i)).Val())
	}
}

func TestWhileABatchStallsOthersAreSentDirectly(t *testing.T) {
	a, c, _, p := held(t)
	p.StallExisting() // a black hole for the batch that uses it
	ctx, cancel := context.WithCancel(t.Context())
	victim := make(chan error, 1)
	go func() { victim <- a.Incr(ctx, "victim").Err() }()
	redistest.Eventually(t, "a batch is under way", soon, func() bool { return busyPipelines(c) == 1 })
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			for i := range 20 {
				assert.NoError(t, a.Incr(t.Context(), fmt.Sprint("n", g, i)).Err())
			}
		})
	}
	within(t, "the others are served", wg.Wait)
	require.EqualValues(t, 1, batch.ProbeOf(a).InFlight(), "while one still waits")
	cancel()
	require.ErrorIs(t, <-victim, retry.ErrUnknownOutcome)
}

func TestReadsAreRepeatedAndWritesAreNotWhenTheirBatchIsLost(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = p.Addr()
	a, c, w := adaptive(t, opt)
	ctx := t.Context()
	require.NoError(t, a.Set(ctx, "k", "v", 0).Err())
	var cut atomic.Bool
	w.before = func(cmds []redis.Cmder) {
		if len(cmds) == 3 {
			cut.Store(true)
		}
	}
	p.OnReply(func(int, []byte) redistest.Action {
		if cut.CompareAndSwap(true, false) {
			return redistest.CutBefore
		}
		return redistest.Forward
	})
	for round := 0; ; round++ {
		require.Less(t, round, 2000, "no batch of three came together")
		before := c.RetryStats()
		var got *redis.StringCmd
		var set *redis.StatusCmd
		var incr *redis.IntCmd
		key := fmt.Sprint("n", round)
		var wg sync.WaitGroup
		wg.Go(func() { incr = a.Incr(ctx, key) })
		wg.Go(func() { got = a.Get(ctx, "k") })
		wg.Go(func() { set = a.Set(ctx, "s", round, 0) })
		wg.Wait()
		require.NoError(t, got.Err())
		require.Equal(t, "v", got.Val())
		require.NoError(t, set.Err())
		require.Equal(t, strconv.Itoa(round), s.Admin().Get(ctx, "s").Val())
		require.Equal(t, "1", s.Admin().Get(ctx, key).Val())
		after := c.RetryStats()
		if incr.Err() == nil {
			continue
		}
		require.ErrorIs(t, incr.Err(), retry.ErrUnknownOutcome)
		require.Equal(t, before.UnknownOutcomes+1, after.UnknownOutcomes)
		require.Equal(t, before.Calls+3, after.Calls, "each is one call")
		require.EqualValues(t, 2, after.Retries-before.Retries)
		return
	}
}

func TestUnderKillsNothingIsCarriedOutTwiceOrLostInSilence(t *testing.T) {
	for name, opts := range map[string][]managed.BatchOption{"one batch at a time": nil, "several": {managed.WithBatchConcurrency(3), managed.WithBatchSize(16)}} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			policy := retry.Default()
			policy.Budget = retry.NewBudget(1, 1000) // the kills are more than it is made for
			c := client(t, s.Options(), managed.WithRetry(policy))
			w := &ways{}
			c.Client.AddHook(w)
			incrs(t, s, c.Adaptive(opts...), w)
		})
	}
}

// incrs makes INCRs while all connections are killed again and again, and looks at
// what came of each.
func incrs(t *testing.T, s *redistest.Server, a redis.UniversalClient, w *ways) {
	d := 2 * time.Second
	if testing.Short() {
		d = time.Second / 2
	}
	ctx := t.Context()
	until := time.Now().Add(d)
	var mu sync.Mutex
	certain, maybe, failed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := 0; time.Now().Before(until); i++ {
				key := fmt.Sprint("n:", g, ":", i)
				err := a.Incr(ctx, key).Err()
				mine := fmt.Sprint("own:", g)
				serr := a.Set(ctx, mine, key, 0).Err()
				got, gerr := a.Get(ctx, mine).Result()
				if gerr == nil && serr == nil && got != key {
					t.Errorf("%s is %q, not %q", mine, got, key)
				}
				if serr != nil || gerr != nil {
					t.Errorf("SET %v, GET %v", serr, gerr)
				}
				mu.Lock()
				switch {
				case err == nil:
					certain[key] = true
				case errors.Is(err, retry.ErrUnknownOutcome):
					maybe[key] = true
				default:
					failed[key] = true
				}
				mu.Unlock()
			}
		})
	}
	kills := 0
	for time.Now().Before(until) {
		kills += s.KillClients(t)
		time.Sleep(5 * time.Millisecond) // the rhythm of the test
	}
	wg.Wait()
	var happened int
	for _, set := range []map[string]bool{certain, maybe, failed} {
		for key, n := range counted(t, s.Admin(), set) {
			switch {
			case n > 1:
				t.Errorf("%s was carried out %d times", key, n)
			case certain[key] && n == 0:
				t.Errorf("%s is lost, and nobody said so", key)
			case failed[key] && n > 0:
				t.Errorf("%s was carried out, and its error says that it was not", key)
			case maybe[key]:
				happened += n
			}
		}
	}
	t.Logf("%d INCRs, %d connections killed, %d unknown outcomes (%d had happened), %d batches of %d", len(certain), kills, len(maybe), happened,
		w.batches.Load(), w.batched.Load())
	require.NotZero(t, kills)
	require.NotZero(t, maybe, "kills met batches")
	require.Greater(t, w.batched.Load(), int64(len(certain)), "most were batched")
}

// counted reads counters, 0 for those that are not there.
func counted[V any](t *testing.T, c redis.Cmdable, keys map[string]V) map[string]int {
	t.Helper()
	counts := make(map[string]int, len(keys))
	for part := range slices.Chunk(slices.Collect(maps.Keys(keys)), 1000) {
		cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, key := range part {
				p.Get(t.Context(), key)
			}
			return nil
		})
		if err != nil && err != redis.Nil {
			t.Fatal(err)
		}
		for i, cmd := range cmds {
			counts[part[i]], _ = cmd.(*redis.StringCmd).Int()
		}
	}
	return counts
}

func TestAnArgumentThatCannotBeSentHurtsNobodyElse(t *testing.T) {
	a, _, _ := adaptive(t, redistest.Start(t).Options())
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			for range 50 {
				if g%4 == 0 {
					assert.ErrorContains(t, a.Set(t.Context(), "bad", struct{ X int }{}, 0).Err(), "can't marshal")
				} else {
					assert.NoError(t, a.Incr(t.Context(), "n").Err())
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 24*50, must(a.Get(t.Context(), "n").Int64()))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAPanicInAHookEndsItsBatchOnly(t *testing.T) {
	a, _, w := adaptive(t, redistest.Start(t).Options())
	w.before = func([]redis.Cmder) { panic("oh") }
	err := a.Incr(t.Context(), "n").Err()
	require.ErrorIs(t, err, retry.ErrUnknownOutcome)
	require.ErrorContains(t, err, "panic in a hook: oh")
	w.before = nil
	require.NoError(t, a.Incr(t.Context(), "n").Err())
}

func TestAClientThatIsClosedOrShuttingDownGivesTheErrorsOfDirectCalls(t *testing.T) {
	s := redistest.Start(t)
	t.Run("closed", func(t *testing.T) {
		a, c, _ := adaptive(t, s.Options())
		require.NoError(t, a.Incr(t.Context(), "n").Err())
		require.NoError(t, a.Close(), "closes the client")
		require.ErrorIs(t, c.Incr(t.Context(), "n").Err(), redis.ErrClosed)
		require.ErrorIs(t, a.Incr(t.Context(), "n").Err(), redis.ErrClosed)
		require.ErrorIs(t, c.Adaptive().Incr(t.Context(), "n").Err(), redis.ErrClosed)
		require.ErrorIs(t, a.Close(), redis.ErrClosed)
	})
	t.Run("shutting down", func(t *testing.T) {
		a, c, _ := adaptive(t, s.Options())
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		down := make(chan error, 1)
		go func() { down <- c.CloseGracefully(t.Context()) }()
		redistest.Eventually(t, "it is shutting down", soon, func() bool { return c.Incr(t.Context(), "n").Err() != nil })
		err = a.Incr(t.Context(), "n").Err()
		require.Equal(t, managed.ErrShutdown, err)
		require.Equal(t, c.Incr(t.Context(), "n").Err(), err)
		conn.Release()
		require.NoError(t, <-down)
		require.ErrorIs(t, a.Incr(t.Context(), "n").Err(), redis.ErrClosed)
	})
}

// shutDownDuringABatch is a client that is shutting down while the server holds back the reply to an
// INCR of "n" in a batch; result and down give the errors of both.
func shutDownDuringABatch(t *testing.T) (result, down chan error, s *redistest.Server, p *redistest.Proxy) {
	t.Helper()
	a, c, s, p := held(t)
	p.Stall(true)
	result, down = make(chan error, 1), make(chan error, 1)
	go func() { result <- a.Incr(t.Context(), "n").Err() }()
	redistest.Eventually(t, "the batch is under way", soon, func() bool { return busyPipelines(c) == 1 })
	go func() { down <- c.CloseGracefully(t.Context()) }()
	redistest.Eventually(t, "new ones are refused", soon, func() bool { return errors.Is(a.Incr(t.Context(), "m").Err(), managed.ErrShutdown) })
	return result, down, s, p
}

func TestShutdownWaitsForTheBatchUnderWay(t *testing.T) {
	result, down, s, p := shutDownDuringABatch(t)
	p.Stall(false)
	require.NoError(t, <-result)
	require.NoError(t, <-down)
	require.Equal(t, "1", s.Admin().Get(t.Context(), "n").Val())
}

func TestAWriteThatWasLostDuringAShutdownIsNotSaidToBeRefused(t *testing.T) {
	result, down, _, p := shutDownDuringABatch(t)
	p.CutAll()
	require.ErrorIs(t, <-result, retry.ErrUnknownOutcome)
	require.NoError(t, <-down)
}

func TestBatchesKeepTheMaximumAge(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options(), managed.WithMaxAge(100*time.Millisecond))
	a := c.Adaptive(always)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				assert.NoError(t, a.Incr(t.Context(), "n").Err())
			}
		})
	}
	redistest.Eventually(t, "connections end for their age under load", soon, func() bool { return c.CloseReasons()[hooks.ReasonAge] >= 5 })
	cancel()
	wg.Wait()
}

func TestUnderLoadShutdownEndsAndSaysTheTruth(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	a := c.Adaptive()
	var wg sync.WaitGroup
	var done atomic.Int64
	for range 64 {
		wg.Go(func() {
			for {
				if err := a.Incr(t.Context(), "n").Err(); err != nil {
					assert.ErrorIs(t, err, redis.ErrClosed)
					assert.NotErrorIs(t, err, retry.ErrUnknownOutcome)
					return
				}
				done.Add(1)
			}
		})
	}
	redistest.Eventually(t, "they run", soon, func() bool { return done.Load() > 1000 })
	require.NoError(t, c.CloseGracefully(t.Context()))
	wg.Wait()
	require.EqualValues(t, done.Load(), must(s.Admin().Get(t.Context(), "n").Int64()))
}

func TestAdaptiveOptionsAreValidated(t *testing.T) {
	c := client(t, redistest.Start(t).Options())
	for text, o := range map[string]managed.BatchOption{
		"WithBatchSize(0)": managed.WithBatchSize(0), "WithBatchDelay(-1ns)": managed.WithBatchDelay(-1),
		"WithBatchDelay(2s)": managed.WithBatchDelay(2 * time.Second), "WithBatchConcurrency(-3)": managed.WithBatchConcurrency(-3),
		"a nil BatchOption": nil,
	} {
		_, err := c.Batched(o)
		require.ErrorContains(t, err, text)
		require.PanicsWithError(t, err.Error(), func() { c.Adaptive(o) })
	}
}

func TestDelayAndSizeOfBatchesAreKept(t *testing.T) {
	c := client(t, redistest.Start(t).Options())
	w := &ways{}
	var largest atomic.Int64
	w.before = func(cmds []redis.Cmder) { largest.Store(max(largest.Load(), int64(len(cmds)))) }
	c.Client.AddHook(w)
	a := c.Adaptive(always, managed.WithBatchSize(4), managed.WithBatchDelay(20*time.Millisecond))
	began := time.Now()
	require.NoError(t, a.Incr(t.Context(), "n").Err())
	require.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() { assert.NoError(t, a.Incr(t.Context(), "n").Err()) })
	}
	wg.Wait()
	require.EqualValues(t, 4, largest.Load())
	require.LessOrEqual(t, w.batches.Load(), int64(1+12))
}

func TestADistantServerIsBatchedOnlyWhenConnectionsRunShort(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.OnReply(func(int, []byte) redistest.Action { time.Sleep(2 * time.Millisecond); return redistest.Forward })
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 32
	c := client(t, opt)
	a := c.Adaptive()
	require.EqualValues(t, 8, batch.ProbeOf(a).Threshold())
	var wg sync.WaitGroup
	for range 48 {
		wg.Go(func() {
			for range 150 {
				assert.NoError(t, a.Incr(t.Context(), "n").Err())
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 32, batch.ProbeOf(a).Threshold())
}

func TestCallsToADistantServerDoNotWaitForTheBatchesOfOthers(t *testing.T) {
	a, c, s, p := held(t)
	batch.ProbeOf(a).NeverStalled()
	batch.ProbeOf(a).FarAway()
	var calls sync.WaitGroup
	for range 4 { // four connections for pipelines
		calls.Go(func() {
			_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.BLPop(t.Context(), 0, "list").Err() })
			assert.NoError(t, err)
		})
	}
	redistest.Eventually(t, "all are in use", soon, func() bool { return busyPipelines(c) == 4 })
	require.NoError(t, s.Admin().RPush(t.Context(), "list", 1, 2, 3, 4).Err())
	calls.Wait()
	p.Stall(true)
	for busy := range 4 {
		calls.Go(func() { assert.NoError(t, a.Incr(t.Context(), "n").Err()) })
		redistest.Eventually(t, "it is sent, although others wait for their replies", soon, func() bool { return busyPipelines(c) == busy+1 })
	}
	calls.Go(func() { assert.NoError(t, a.Incr(t.Context(), "n").Err()) })
	redistest.Eventually(t, "a fifth one waits for one of these", soon, func() bool { return batch.ProbeOf(a).Queued() == 1 })
	p.Stall(false)
	within(t, "all are answered", calls.Wait)
	require.EqualValues(t, 5, must(c.Get(t.Context(), "n").Int()))
}

func TestABatchThatWaitsForADialEndsWithItsCallerAndIsNotSent(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	var stuck atomic.Bool
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if stuck.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	opt.DialTimeout = 2 * time.Second
	c := client(t, opt)
	a := c.Adaptive(always)
	require.NoError(t, a.Incr(t.Context(), "n").Err())
	stuck.Store(true)
	require.NoError(t, s.Admin().ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			err := a.Incr(ctx, "n").Err()
			if !errors.Is(err, context.DeadlineExceeded) || retry.OutcomeOf(err) != retry.NotSent {
				t.Errorf("%v: %v", retry.OutcomeOf(err), err)
			}
		})
	}
	all.Wait()
	stuck.Store(false)
	require.EqualValues(t, 2, a.Incr(t.Context(), "n").Val(), "nothing was executed")
}
