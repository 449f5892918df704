package monitor

import (
	"context"
	"errors"
	"math"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Client is a [Source] of a plain go-redis client. It is safe for concurrent use.
type Client struct {
	rdb redis.UniversalClient
	err error

	mu      sync.Mutex
	known   []*redis.Client // the nodes when they were last asked for
	widened map[*redis.Client]*wide

	hooked       atomic.Bool
	rec          Recorder
	dialErrors   atomic.Uint64
	lastDialFail atomic.Pointer[DialError]
}

// FromClient makes a Source of a *redis.Client, *redis.ClusterClient or *redis.Ring,
// or of what embeds one. It does not change the client. A nil client is an error of
// [New].
//
// go-redis tells its users neither what its commands took nor why a connection ended;
// add the hook for some of it:
//
//	src := monitor.FromClient(rdb)
//	rdb.AddHook(src.Hook())
//
// Of a cluster, every sample asks for the nodes, with a CLUSTER SLOTS that may take
// one second.
func FromClient(rdb redis.UniversalClient) *Client {
	c := &Client{rdb: rdb, widened: map[*redis.Client]*wide{}}
	if v := reflect.ValueOf(rdb); rdb == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		c.err = errors.New("FromClient: the client is nil")
		return c
	}
	_, many := rdb.(manyNodes)
	_, one := rdb.(oneNode)
	if !many && !one {
		c.err = errors.New("FromClient: the client is none of *redis.Client, *redis.ClusterClient and *redis.Ring")
	}
	return c
}

type manyNodes interface {
	ForEachShard(context.Context, func(context.Context, *redis.Client) error) error
}

type oneNode interface{ Options() *redis.Options }

func (c *Client) validate() error { return c.err }

// nodesTimeout bounds the question for the nodes of a cluster.
const nodesTimeout = time.Second

// Sample implements [Source].
func (c *Client) Sample(s *Sample) {
	if c.err != nil {
		s.Gap(c.err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if many, ok := c.rdb.(manyNodes); ok {
		c.askNodes(many, s)
		for _, n := range c.known {
			c.sample(s, n, n.Options(), n.PoolStats())
		}
	} else {
		c.sample(s, nil, c.rdb.(oneNode).Options(), c.rdb.PoolStats())
	}
	s.Gap("closed: why connections ended")
	s.Gap("waits that a ctx ended")
	s.Gap("retries, breakers and leases: a plain client has none, or does not tell", "dialing", "leases", "retries", "unknown_outcomes",
		"budget_refusals", "breakers_open", "breaker_opened", "breaker_closed", "breaker_refusals", "leaks")
	if !c.hooked.Load() {
		s.Gap("distributions, dial errors and peaks: see Client.Hook", "dial", "wait", "hold", "command", "dial_errors", "peak_in_use", "peak_demand")
		return
	}
	s.Gap("distributions of waits and holds", "wait", "hold")
	into := &s.Rest
	if _, many := c.rdb.(manyNodes); many {
		s.Gap("dial errors and how long dials took: the nodes of a cluster or ring have no hook", "dial_errors", "dial")
		s.Gap("commands and peaks by node: the nodes of a cluster or ring have no hook", "nodes.command", "nodes.peak_demand", "peak_in_use")
	} else {
		into = &s.Nodes[0].Numbers
	}
	c.rec.Fill(into)
	into.DialErrors = c.dialErrors.Load()
	if e := c.lastDialFail.Load(); e != nil {
		s.LastDialError = e
	}
}

// askNodes finds out which nodes there are. If it cannot, those from before go on
// being counted.
func (c *Client) askNodes(many manyNodes, s *Sample) {
	ctx, cancel := context.WithTimeout(context.Background(), nodesTimeout)
	defer cancel()
	var mu sync.Mutex
	var nodes []*redis.Client
	err := many.ForEachShard(ctx, func(_ context.Context, n *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, n)
		return nil
	})
	if err != nil {
		var fields []string
		if c.known == nil { // nothing is known of any node
			fields = Fields()
		}
		s.Gap("nodes that have come or gone meanwhile: "+err.Error(), fields...)
		return
	}
	c.known = nodes
	for n := range c.widened {
		if !slices.Contains(nodes, n) {
			delete(c.widened, n)
		}
	}
}

// defaultPipelinePool is go-redis's default for Options.PipelinePoolSize.
const defaultPipelinePool = 10

// sample adds one node. go-redis's own numbers of it are corrected.
func (c *Client) sample(s *Sample, of *redis.Client, opt *redis.Options, ps *redis.PoolStats) {
	w := c.widened[of]
	if w == nil {
		w = &wide{}
		c.widened[of] = w
	}
	n := Node{Name: opt.Addr}
	n.Main = poolOf(ps, opt.PoolSize)
	if opt.MaxActiveConns > 0 && opt.MaxActiveConns < n.Main.Size {
		n.Main.Size = opt.MaxActiveConns // beyond it go-redis fails at once
	}
	w.main.add(&n.Numbers, ps, opt.PoolTimeout)
	n.Subscribed = int(int32(ps.PubSubStats.Active))
	if pp := (*redis.PoolStats)(ps.PipelineStats); pp != nil {
		size := opt.PipelinePoolSize
		if size <= 0 {
			size = defaultPipelinePool
		}
		n.Pipeline = poolOf(pp, size)
		w.pipeline.add(&n.Numbers, pp, opt.PoolTimeout)
	}
	w.subscribed.add(ps.PubSubStats.Created)
	w.unsubscribed.add(ps.PubSubStats.Untracked)
	n.Dialed += w.subscribed.sum
	closed(&n.Numbers, w.unsubscribed.sum)
	s.Nodes = append(s.Nodes, n)
}

// poolOf corrects the gauges: IdleConns may be less than nothing for a moment, which
// go-redis gives as 4294967295.
func poolOf(ps *redis.PoolStats, size int) Pool {
	p := Pool{Size: size, Open: int(ps.TotalConns), Waiting: max(int(int32(ps.PendingRequests)), 0)}
	p.Idle = min(max(int(int32(ps.IdleConns)), 0), p.Open)
	p.InUse = p.Open - p.Idle
	return p
}

// wide has the counters of a node, which go-redis lets wrap around at 32 bits.
type wide struct {
	main, pipeline           widePool
	subscribed, unsubscribed counter
}

type widePool struct {
	hits, misses, timeouts, waits, removed counter
	dialed                                 uint64
}

// counter adds up a number that wraps around.
type counter struct {
	last uint32
	sum  uint64
}

func (c *counter) add(now uint32) {
	c.sum += uint64(now - c.last)
	c.last = now
}

// reasonRemoved is the reason of all connections that go-redis ended: it does not
// tell them apart.
const reasonRemoved = "removed"

// add adds the counters of one pool to n.
func (w *widePool) add(n *Numbers, ps *redis.PoolStats, poolTimeout time.Duration) {
	w.hits.add(ps.Hits)
	w.misses.add(ps.Misses)
	w.timeouts.add(ps.Timeouts)
	w.waits.add(ps.WaitCount)
	w.removed.add(ps.StaleConns)
	// A connection that was opened is still there or was removed. The two are read
	// one after the other.
	w.dialed = max(w.dialed, uint64(ps.TotalConns)+w.removed.sum)
	n.Hits += w.hits.sum
	n.Misses += w.misses.sum
	n.PoolTimeouts += w.timeouts.sum
	n.Waits += w.waits.sum + w.timeouts.sum
	n.WaitTime += time.Duration(ps.WaitDurationNs) + time.Duration(min(w.timeouts.sum, math.MaxInt32))*poolTimeout
	n.Dialed += w.dialed
	closed(n, w.removed.sum)
}

// closed counts connections that were ended for a reason nobody knows.
func closed(n *Numbers, count uint64) {
	if count > 0 {
		addMap(&n.Closed, map[string]uint64{reasonRemoved: count})
	}
}

// Hook returns a hook that times commands, pipelines and dials and counts what is
// wanted at once, at about 200 ns a command. Give it to the client's AddHook, once.
// Dials that were made before, as those for MinIdleConns, are not timed, nor are
// those of a cluster or ring, whose nodes it does not reach.
func (c *Client) Hook() redis.Hook {
	c.hooked.Store(true)
	return clientHook{c}
}

type clientHook struct{ c *Client }

func (h clientHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		start := time.Now()
		conn, err := next(ctx, network, addr)
		h.c.rec.Dial.Record(time.Since(start))
		if err != nil {
			h.c.dialErrors.Add(1)
			h.c.lastDialFail.Store(&DialError{Time: time.Now().Round(0), Node: addr, Err: err.Error()})
			return conn, err
		}
		h.c.lastDialFail.Store(nil)
		return conn, nil
	}
}

func (h clientHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if isHandshake(cmd) {
			return next(ctx, cmd)
		}
		defer h.c.end(h.c.begin())
		return next(ctx, cmd)
	}
}

func (h clientHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return !isHandshake(cmd) }) {
			return next(ctx, cmds)
		}
		defer h.c.end(h.c.begin())
		return next(ctx, cmds)
	}
}

// isHandshake recognises what go-redis sends to set a connection up. It passes the
// hooks inside of the command that needs the connection, which is counted already.
func isHandshake(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "auth", "client", "hello", "readonly", "readwrite", "select":
		return true
	}
	return false
}

// begin counts a command or a pipeline until end.
func (c *Client) begin() (start time.Time) {
	c.rec.Use.Enter()
	return time.Now()
}

func (c *Client) end(start time.Time) {
	c.rec.Use.Leave()
	c.rec.Command.Record(time.Since(start))
}
