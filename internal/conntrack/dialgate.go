package conntrack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// gate controls the dials to one node. While the node is unreachable, one prober tries to reach it
// and every other dial fails at once: go-redis dials without its caller's ctx and occupies a slot
// of the pool meanwhile (TestContractTheDialerNeverSeesTheCaller), so the callers do the waiting,
// with their own ctx, in GateError.Wait.
type gate struct {
	n *Node

	mu    sync.Mutex
	open  chan struct{}   // closed when the node is reachable again; nil while it is reachable
	asked time.Time       // when a connection was last wanted
	free  chan struct{}   // received from by those that wait for the node, see offer
	ctx   context.Context // ends with the node
	stop  context.CancelFunc

	reopened atomic.Int64 // UnixNano: dials are paced for a while after that
	pace     chan struct{}
}

const (
	probeFirst  = 5 * time.Millisecond
	probeLast   = time.Second
	probeGrowth = 100 // a probe every 1/100 of the outage so far: frequent at first, once a second in the end
	askedWithin = 30 * time.Second
	probeWait   = 250 * time.Millisecond // timeout of the first probe, doubled up to DialTimeout

	offerEvery = 5 * time.Millisecond

	pacedFor   = time.Second // after an outage
	pacedDials = 8           // maximum number of concurrent dials
)

// GateError says that a node is unreachable: the dial was not tried.
type GateError struct {
	Node  string
	Since time.Time // when its trouble began
	Err   error     // error of the last dial
	gate  *gate
	open  chan struct{}
}

func (e *GateError) Error() string {
	lasted := ""
	if d := errtext.Round(time.Since(e.Since)); d > 0 {
		lasted = fmt.Sprintf(" for %v", d)
	}
	return fmt.Sprintf("lifeguard: redis %s unreachable%s: %s", e.Node, lasted, errtext.Brief(e.Err))
}

func (e *GateError) Unwrap() error { return e.Err }

// Unsent is always true.
func (e *GateError) Unsent() bool { return true }

// Away reports whether node, or any if node is empty, is the one that was dialed and still
// unreachable.
func (e *GateError) Away(node string) bool {
	return (node == "" || node == e.Node) && e.gate.n.Health() == hooks.Unreachable
}

// Wait returns nil when the node may be tried again, because it is reachable or, after the pause, one of
// its open connections is free; or the error of ctx. It is safe for concurrent use.
func (e *GateError) Wait(ctx context.Context, pause time.Duration) error {
	e.gate.touch()
	outage := e.gate.n.health.at.Load()
	outage.waiting.Add(1)
	defer outage.waiting.Add(-1)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	var free chan struct{}
	for {
		select {
		case <-e.open:
			return nil
		case <-timer.C:
			free = e.gate.free
		case <-free:
			return nil
		case <-e.gate.ctx.Done():
			return nil // closed: the next attempt returns that error
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newGate(n *Node) *gate {
	g := &gate{n: n, free: make(chan struct{}), pace: make(chan struct{}, pacedDials)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

func (g *gate) touch() {
	g.mu.Lock()
	g.asked = time.Now()
	g.mu.Unlock()
}

// check returns a GateError while the node is unreachable.
func (g *gate) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		return nil
	}
	g.asked = time.Now()
	return g.errLocked()
}

// unreachableError is a GateError without Wait.
type unreachableError struct{ gate *GateError }

func (e *unreachableError) Error() string         { return e.gate.Error() }
func (e *unreachableError) Unwrap() error         { return e.gate.Err }
func (e *unreachableError) Unsent() bool          { return true }
func (e *unreachableError) Away(node string) bool { return e.gate.Away(node) }

// awayError is the error of a dial to a master that Sentinels named: there is no gate.
type awayError struct {
	error
	node *Node
}

func (e *awayError) Unwrap() error    { return e.error }
func (e *awayError) Away(string) bool { return e.node.Health() == hooks.Unreachable }

func (g *gate) errLocked() error {
	e := &GateError{Node: g.n.addr, gate: g, open: g.open}
	if e.Since, e.Err = g.n.health.trouble(); e.Since.IsZero() {
		e.Since = time.Now() // the client is being closed: no trouble is recorded any more
	}
	if g.n.noWait {
		return &unreachableError{e}
	}
	return e
}

// shut records a failed dial; the first one starts the prober. It returns the error for the caller.
func (g *gate) shut(cause error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return cause
	}
	g.n.health.become(hooks.Unreachable, cause)
	g.asked = time.Now()
	if g.open == nil {
		g.open = make(chan struct{})
		go g.probe()
		if !g.n.noWait {
			go g.offer(g.open)
		}
	}
	return g.errLocked()
}

// offer lets as many callers that wait for the node go on as connections are free, as long as the
// node serves those that it has: it may only accept no new ones.
func (g *gate) offer(open <-chan struct{}) {
	tick := time.NewTicker(offerEvery)
	defer tick.Stop()
	for g.n.Len() > 0 {
		select {
		case <-open:
			return
		case <-g.ctx.Done():
			return
		case <-tick.C:
		}
		ps := g.n.PoolStats()
		for idle := counts(ps).Idle + counts((*redis.PoolStats)(ps.PipelineStats)).Idle; idle > 0; idle-- {
			select {
			case g.free <- struct{}{}:
			default: // nobody waits
				idle = 0
			}
		}
	}
}

// probe tries to reach the node until it succeeds, nobody wants a connection any more, or the node
// is closed.
func (g *gate) probe() {
	start := time.Now()
	patience := probeWait
	timer := time.NewTimer(probeFirst)
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-timer.C:
		}
		limit := min(patience, g.n.dialTimeout())
		ctx, cancel := context.WithTimeout(g.ctx, limit)
		leave, err := g.n.t.reservedSeat(ctx)
		if err != nil { // another probe of ours holds the place: try again
			cancel()
			timer.Reset(probeFirst)
			continue
		}
		c, err := g.n.base(ctx, g.n.network(), g.n.addr)
		late := ctx.Err() != nil
		cancel()
		if err == nil {
			_ = c.Close()
			leave()
			g.n.lastDial.Store(nil)
			g.n.health.change(hooks.Unreachable, hooks.Recovering, nil)
			g.reopen()
			return
		}
		leave()
		g.n.lastDial.Store(&DialFailure{g.n.t.Now(), err})
		if late {
			patience *= 2
		}
		g.n.health.become(hooks.Unreachable, err)
		g.mu.Lock()
		quiet := time.Since(g.asked) > askedWithin
		g.mu.Unlock()
		if quiet {
			g.reopen() // the next dial is its own probe
			return
		}
		timer.Reset(probePause(time.Since(start), rand.Float64()))
	}
}

// probePause returns the pause before the next probe of an outage that has lasted for the given
// time; random is between 0 and 1.
func probePause(outage time.Duration, random float64) time.Duration {
	wait := outage / probeGrowth
	if wait >= probeLast {
		return probeLast + time.Duration(random*float64(probeLast)/4)
	}
	wait = max(wait, probeFirst)
	return wait*3/4 + time.Duration(random*float64(wait)/2)
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		g.reopened.Store(time.Now().UnixNano())
		close(g.open)
		g.open = nil
	}
}

// enter paces dials for a while after an outage, so that callers that waited do not all dial at
// once. The returned function must be called after the dial.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	if r := g.reopened.Load(); r == 0 || time.Now().UnixNano()-r > int64(pacedFor) {
		return func() {}, nil
	}
	select {
	case g.pace <- struct{}{}:
		return func() { <-g.pace }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// DialError returns the error of a caller that got no connection because of err.
func (n *Node) DialError(err error) error {
	return typed(&hooks.ConnError{Op: OpDial, Node: n.addr, Err: err})
}

// Unreachable returns the error of a node that is known to be unreachable, else nil.
func (n *Node) Unreachable() error {
	n.gate.mu.Lock()
	defer n.gate.mu.Unlock()
	if n.gate.open == nil {
		return nil
	}
	return n.gate.errLocked()
}
