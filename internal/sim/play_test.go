//go:build unix

package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/testclock"
)

// Result is what a caller got for one request.
type Result struct {
	Call       Call
	Cmd        []any
	Token      string // "" for reads
	Err        error
	Reply      string
	Start, End time.Duration
	Until      time.Duration // when its ctx ended at the latest, 0 for never
	Late       error         // of its ctx when it returned
}

// Played is what came of a scenario.
type Played struct {
	Results  []Result
	Ledger   *Ledger
	Trace    *Trace
	Failures []Failure
	Virtual  time.Duration
}

// run is a scenario while it is played.
type run struct {
	Scenario
	*Played
	net    *Network
	client *client
	ready  chan struct{} // closed when client is set
	clock  atomic.Int64  // by how much the wall clock is off, ns
	mu     sync.Mutex
	linkOf map[uint64]*Link // by the id of a tracked connection

	noCredentials atomic.Bool
}

// play plays a scenario in a bubble of its own.
func play(t *testing.T, s Scenario) (p *Played) {
	// What a sync.Pool keeps must not get into the next bubble.
	runtime.GC()
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	p = &Played{Trace: &Trace{}}
	p.Ledger = &Ledger{of: map[string]*Entry{}, trace: p.Trace}
	r := &run{Scenario: s, Played: p, linkOf: map[uint64]*Link{}, ready: make(chan struct{})}
	hangs := time.AfterFunc(30*time.Second, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("seed %d breaks stands-still: simulated time does not go on: somebody waits for a mutex, for something outside, or not at all", s.Seed))
	})
	defer hangs.Stop()
	defer func() {
		if e := recover(); e != nil {
			r.fail("goroutine-left", "", "", 0, "%v", e)
		}
	}()
	synctest.Test(t, func(*testing.T) { r.play(t) })
	return p
}

func (r *run) play(t *testing.T) {
	r.Trace.start = time.Now()
	r.net = &Network{ledger: r.Ledger, trace: r.Trace, data: newData(), rnd: rand.New(rand.NewPCG(r.Seed, 2))}
	testclock.Set(func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) })
	r.client = r.newClient(t)
	testclock.Set(nil)
	close(r.ready)
	if err := r.client.Get(context.Background(), "warm").Err(); err != redis.Nil {
		t.Fatal(err) // go-redis asks for COMMAND, and holds a mutex meanwhile: the lines have no latency yet
	}
	r.net.mu.Lock()
	for _, s := range r.net.servers {
		if s.sentinel == "" {
			s.path.latency = r.Latency
		}
	}
	r.net.mu.Unlock()
	for _, f := range r.Faults {
		go func() { time.Sleep(f.At); f.strike(r) }()
	}
	done := make(chan struct{})
	var callers sync.WaitGroup
	for _, calls := range r.Callers {
		callers.Go(func() {
			for _, call := range calls {
				time.Sleep(call.Think)
				r.call(call)
			}
		})
	}
	go func() { callers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(r.Length + 10*time.Minute):
		r.fail("never-returns", "", "", 0, "a caller has not returned after %v", r.Trace.now())
	}
	time.Sleep(max(0, r.Length-r.Trace.now()) + 10*time.Second) // until all faults are over, and what they caused
	r.checkPool()
	r.Virtual = r.Trace.now()
	_ = r.client.Close()
	time.Sleep(10 * time.Second)
	r.net.each(nil, func(l *Link) { r.fail("left-open", "", "", l.n, "link %d is open after Close", l.n) })
	r.checkResults()
	r.checkMoved()
	r.net.each(nil, func(l *Link) { l.reset("is cut at the end") })
	for _, l := range r.net.links { // a server's end that never notices it
		l.far.in.set(func() { l.far.in.gone = true })
		l.far.out.finish(nil, errors.New("over"), 0)
	}
}

// call makes one call and records what its caller gets.
func (r *run) call(call Call) {
	ctx, start := context.Background(), r.Trace.now()
	var until time.Duration
	if call.Limit > 0 {
		var cancel context.CancelFunc
		if call.Cancel {
			ctx, cancel = context.WithCancel(ctx)
			defer time.AfterFunc(call.Limit, cancel).Stop()
		} else {
			ctx, cancel = context.WithTimeout(ctx, call.Limit)
		}
		defer cancel()
		until = start + call.Limit
	}
	if call.Hooked {
		var key any = hookedKey{}
		if r.hookedInside(call) {
			key = insideKey{}
		}
		ctx = context.WithValue(ctx, key, true)
	}
	note := func(args []any, reply string, err error) {
		res := Result{Call: call, Cmd: args, Token: tokenOf(words(args)), Err: err, Start: start, End: r.Trace.now(), Until: until, Reply: reply, Late: ctx.Err()}
		if errors.Is(err, redis.Nil) {
			res.Err, res.Reply = nil, text(nil)
		}
		r.mu.Lock()
		r.Results = append(r.Results, res)
		r.mu.Unlock()
		r.Trace.add(res.Token, 0, "returned %.100s, %v", res.Reply, res.Err)
	}
	r.Trace.add(tokenStart+call.ID+"}/0", 0, "%v", call)
	do := func(c interface {
		Do(context.Context, ...any) *redis.Cmd
	}, args []any) error {
		cmd := c.Do(ctx, args...)
		note(args, valueOf(cmd), cmd.Err())
		return cmd.Err()
	}
	type several func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
	send := func(run several) ([]redis.Cmder, error) {
		return run(ctx, func(p redis.Pipeliner) error {
			for _, args := range call.Cmds {
				p.Do(ctx, args...)
			}
			return nil
		})
	}
	noteAll := func(cmds []redis.Cmder, err error) {
		for i, args := range call.Cmds {
			if i < len(cmds) {
				note(args, valueOf(cmds[i]), cmds[i].Err())
			} else {
				note(args, "", err)
			}
		}
	}
	many := func(run several) { noteAll(send(run)) }
	together := func(c redis.Cmdable) {
		var all sync.WaitGroup
		for _, args := range call.Cmds {
			all.Go(func() {
				cmd := typed(ctx, c, args)
				note(args, valueOf(cmd), cmd.Err())
			})
		}
		all.Wait()
	}
	key := fmt.Sprintf("k:{%s}", call.ID)
	c := r.client
	switch {
	case call.Kind == "pipe":
		many(c.Pipelined)
	case call.Kind == "tx":
		many(c.TxPipelined)
	case call.Kind == "watch":
		var cmds []redis.Cmder
		err := c.Watch(ctx, func(tx *redis.Tx) (err error) { // once more, if its slot is elsewhere
			cmds, err = send(tx.TxPipelined)
			return err
		}, key)
		if cmds == nil {
			note(call.Cmds[0], "", err)
		} else {
			noteAll(cmds, err)
		}
	case call.Kind == "adaptive":
		together(c.adaptive)
	case call.Kind == "batched":
		together(c.batched)
	case call.Kind == "lease":
		conn, err := c.acquire(ctx, key)
		if err != nil {
			call.Kind = "acquire"
			note(call.Cmds[0], "", err)
			return
		}
		defer conn.Release()
		if call.Piped {
			many(conn.Pipelined)
			return
		}
		for _, args := range call.Cmds {
			if do(conn, args) != nil {
				return
			}
			time.Sleep(call.Hold)
		}
	case call.Cmds[0][0] == "blpop":
		cmd := typed(ctx, c, call.Cmds[0])
		note(call.Cmds[0], valueOf(cmd), cmd.Err())
	default:
		_ = do(c, call.Cmds[0])
	}
}
