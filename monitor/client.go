package monitor

import (
	"context"
	"errors"
	"net"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/redis/go-redis/v9"
)

// Client is a [Source] for a plain go-redis client. It is safe for concurrent use.
type Client struct {
	rdb redis.UniversalClient
	err error

	mu      sync.Mutex
	known   []*redis.Client // the nodes, as last queried
	widened map[*redis.Client]*PoolCounters

	hooked       atomic.Bool
	rec          Recorder
	dialErrors   atomic.Uint64
	lastDialFail atomic.Pointer[DialError]
}

// FromClient makes a Source for a *redis.Client, *redis.ClusterClient or *redis.Ring, or for a type
// that embeds one. It does not change the client. A nil client makes [New] return an error.
//
// go-redis does not report how long its commands took nor why a connection was closed. The hook
// adds some of this:
//
//	src := monitor.FromClient(rdb)
//	rdb.AddHook(src.Hook())
//
// On a cluster, every sample queries the nodes with CLUSTER SLOTS, for up to one second.
func FromClient(rdb redis.UniversalClient) *Client {
	c := &Client{rdb: rdb, widened: map[*redis.Client]*PoolCounters{}}
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

// nodesTimeout bounds the query for the nodes of a cluster.
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
	s.Gap("closed: why connections were closed")
	s.Gap("waits that a ctx ended")
	s.Gap("retries, breakers and leases: a plain client has none, or does not report them", "dialing", "leases", "leases_overdue", "retries", "unknown_outcomes",
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

// askNodes queries the nodes of the cluster. If that fails, the ones known before are used.
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
		if c.known == nil { // no node is known
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

// sample adds one node, with go-redis's numbers corrected.
func (c *Client) sample(s *Sample, of *redis.Client, opt *redis.Options, ps *redis.PoolStats) {
	p := c.widened[of]
	if p == nil {
		p = &PoolCounters{}
		c.widened[of] = p
	}
	n := Node{Name: opt.Addr}
	p.Fill(&n.Numbers, opt, ps)
	s.Nodes = append(s.Nodes, n)
}

// Hook returns a hook that times commands, pipelines and dials, and counts how many connections are
// wanted at once, for about 200 ns a command. Pass it to the client's AddHook, once. Earlier dials,
// such as those for MinIdleConns, are not timed; nor are the dials of a cluster or ring, because
// the hook does not reach their nodes.
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
			h.c.lastDialFail.Store(&DialError{Time: time.Now().Round(0), Node: addr, Err: errtext.Brief(err)})
			return conn, err
		}
		h.c.lastDialFail.Store(nil)
		return conn, nil
	}
}

func (h clientHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if command.IsHandshake(cmd) {
			return next(ctx, cmd)
		}
		defer h.c.end(h.c.begin())
		return next(ctx, cmd)
	}
}

func (h clientHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return !command.IsHandshake(cmd) }) {
			return next(ctx, cmds)
		}
		defer h.c.end(h.c.begin())
		return next(ctx, cmds)
	}
}

// begin counts a command or a pipeline until end is called.
func (c *Client) begin() (start time.Time) {
	c.rec.Use.Enter()
	return time.Now()
}

func (c *Client) end(start time.Time) {
	c.rec.Use.Leave()
	c.rec.Command.Record(time.Since(start))
}
