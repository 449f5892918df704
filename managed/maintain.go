package managed

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// maintainer keeps the pools of one client right with nobody calling: it ends
// connections that are too old or not needed, wakes those that have been silent
// for too long, and looks after the siblings of one that failed. Each node has a
// schedule of its own, so that one whose server hangs delays no other.
type maintainer struct {
	core      *core
	maxIdle   atomic.Int64 // ns, 0: none
	heartbeat atomic.Int64 // ns, 0: none, negative: automatic

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	nodes  []*nodeState
	byNode map[*conntrack.Node]*nodeState

	around    atomic.Bool // core.look is running
	roomAsked atomic.Bool
}

// nodeState is what the maintainer remembers of one node. It belongs to the look
// under way but for the atomics.
type nodeState struct {
	m        *maintainer
	unit     *unit
	node     *conntrack.Node
	minIdle  int
	main     poolState
	pipeline poolState
	suspect  suspicion
	schedule schedule
	survey   survey // the last one; its lists are used again

	lastReadOnly atomic.Int64
	wasMaster    bool // other nodes of the cluster said so when it last answered nobody

	looked   time.Duration // when the last survey was made
	unmet    int           // sweeps in a row that did not meet all that was due
	rest     [3]int        // what the last tick had no time for, by pool
	turns    [3]int        // how many visits it had left for that
	then     time.Duration // when to come back after that
	visiting turn          // taken by whoever visits: one idle connection at a time

	pings       pings
	learnAgain  atomic.Bool
	automatic   atomic.Int64  // heartbeat by the server's timeout in ns, 0 none
	retryDialed time.Duration // when a server that took nobody new was asked last

	inquiring turn // taken by whoever asks the server something; what follows is theirs
	server    serverClients
	compared  bool          // the pools with what the server takes
	learned   bool          // the server's timeout has been asked for
	tryAgain  time.Duration // ask for it not before, on the tracker's clock
	unheard   int           // questions in a row that got no answer
}

const (
	tickBudget = 1500 * time.Microsecond // work of one tick, so that it hardly ever takes 2 ms
	tickPause  = 2 * time.Millisecond    // between ticks of one round
	retryPause = 20 * time.Millisecond
	lookAgain  = 50 * time.Millisecond
	leftPause  = 5 * time.Second
	learnPause = 100 * time.Millisecond // until the server can be asked for its timeout
	agedAtOnce = 256                    // part of the maximum age within which ends are put together
	beatAtOnce = 16                     // part of the heartbeat within which PINGs are
	dirtyPause = 200 * time.Millisecond // between looks for one that came back with state on it
	frozen     = 3 * time.Second        // a timer later than that means that the process did not run
	never      = time.Duration(1<<63 - 1)
)

func newMaintainer(c *core) *maintainer {
	m := &maintainer{core: c, byNode: map[*conntrack.Node]*nodeState{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	c.tracker.OnDial(func(conn *conntrack.Conn) { m.used(conn.Node()) })
	c.tracker.OnUse(m.used)
	c.tracker.OnFull(m.makeRoom)
	c.tracker.OnFailure(m.failed)
	return m
}

func (m *maintainer) add(u *unit, minIdle int) *nodeState {
	s := &nodeState{m: m, unit: u, node: u.node, minIdle: minIdle, visiting: make(turn, 1), inquiring: make(turn, 1)}
	s.main.pool, s.pipeline.pool = hooks.PoolMain, hooks.PoolPipeline
	s.schedule.look = s.lookNow
	m.mu.Lock()
	for _, other := range m.nodes {
		if other.unit.inner && other.node.Len() == 0 {
			other.schedule.within(leftPause) // it may have left without ever being used
		}
	}
	m.nodes = append(m.nodes, s)
	m.byNode[u.node] = s
	m.mu.Unlock()
	if m.ctx.Err() != nil {
		s.schedule.stop()
	}
	m.core.warnOfLimit()
	return s
}

func (m *maintainer) list() []*nodeState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*nodeState(nil), m.nodes...)
}

// drop forgets a node that left the cluster.
func (m *maintainer) drop(s *nodeState) {
	s.schedule.stop()
	if b := s.unit.blocking.unit.Load(); b != nil {
		_ = b.rdb.Close() // go-redis knows nothing of it
		if own := m.of(b.node); own != nil {
			m.drop(own)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byNode, s.node)
	for i, x := range m.nodes {
		if x == s {
			m.nodes = append(m.nodes[:i:i], m.nodes[i+1:]...)
		}
	}
	s.node.Close()
}

// of finds what is known of a node, nil if it is none of the client's.
func (m *maintainer) of(n *conntrack.Node) *nodeState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byNode[n]
}

// wake makes all nodes be looked at. It never blocks.
func (m *maintainer) wake() {
	for _, s := range m.list() {
		s.wake()
	}
}

// wake makes the node be looked at now. It never blocks and may be called under
// go-redis's locks.
func (s *nodeState) wake() { s.schedule.within(0) }

// used hears that a node is used again, or for the first time, or not any more; nil:
// that something has changed for all. It may be called under go-redis's locks.
func (m *maintainer) used(n *conntrack.Node) {
	if n == nil {
		m.wake()
	} else if s := m.of(n); s != nil {
		s.schedule.within(s.soon())
	}
}

// soon is how long after its first use, or its dial, something may be due on a
// connection.
func (s *nodeState) soon() time.Duration {
	d := learnPause
	part := func(of time.Duration, n time.Duration) {
		if of > 0 {
			d = min(d, of/n)
		}
	}
	part(s.m.core.tracker.MaxAge(), 10)
	part(time.Duration(s.m.heartbeat.Load()), 4)
	part(time.Duration(s.m.maxIdle.Load()), 20)
	part(s.m.core.set.suspicion.After, 2)
	return d
}

func (m *maintainer) close() {
	m.cancel()
	for _, s := range m.list() {
		s.schedule.stop()
	}
}

// lookNow does what is due on the node, at most tickBudget of it, and returns when to
// come back. late is by how much the timer was.
func (s *nodeState) lookNow(late time.Duration) time.Duration {
	m, t := s.m, s.m.core.tracker
	if m.ctx.Err() != nil {
		return never
	}
	if late > frozen && t.Unverified() < t.Elapsed()-late {
		t.Distrust() // the process stood still
	}
	t.LookAtClocks()
	m.lookAround()
	return s.round()
}

// lookAround calls core.look, unless it is running: it may wait for a server.
func (m *maintainer) lookAround() {
	if m.core.look == nil || !m.around.CompareAndSwap(false, true) {
		return
	}
	m.done.Add(1)
	go func() {
		defer m.done.Done()
		defer m.around.Store(false)
		m.core.look()
	}()
}

// round looks at every connection of the node, gives orders, and visits.
func (s *nodeState) round() time.Duration {
	m := s.m
	now := m.core.tracker.Elapsed()
	if s.node.Len() == 0 {
		if s.left() {
			m.drop(s)
		}
		return never // the next dial comes here
	}
	if s.rest != [3]int{} && now-s.looked < lookAgain && !s.suspect.holds(now) {
		return s.sweepOn(time.Now(), s.rest)
	}
	start := time.Now()
	look := &s.survey
	look.begin(s, now)
	s.node.Range(look.conn)
	look.old()
	look.dirty()
	next := min(look.next, s.main.shrink(s, look), s.pipeline.shrink(s, look))
	if look.away && look.waiting {
		next = min(next, s.askAgain(now))
	}
	next = min(next, s.suspect.look(s, look))
	s.looked = now
	if s.suspect.holds(now) {
		return next // a PING of ours got no answer: it is being found out whether anybody does
	}
	if look.due == [3]int{} { // they are commands like any other, and must not meet what is to be verified
		next = min(next, s.inquire(now))
	}
	s.then = next
	return s.sweepOn(start, look.due)
}

// inquire asks the server what maintenance wants to know, and returns when to come
// back. The answer may take long, and the look must not: a hung server is found out by it.
func (s *nodeState) inquire(now time.Duration) time.Duration {
	if !s.inquiring.try() {
		return never // it brings us here when it is over
	}
	wait := s.learnIn(now)
	clients := s.serverDue(now)
	if wait > 0 && !clients {
		s.inquiring.end()
		return wait
	}
	s.m.done.Add(1)
	go func() {
		defer s.m.done.Done()
		next := wait
		if wait <= 0 {
			next = s.learn(now)
		}
		if clients {
			s.askServer(now)
		}
		s.inquiring.end()
		s.schedule.within(next)
	}()
	return never
}

// sweepOn visits what is due for the rest of the tick that began at start. What
// it has no time for is left to the next one, which does without a look at all
// connections if that was not long ago.
func (s *nodeState) sweepOn(start time.Time, due [3]int) time.Duration {
	if !s.visiting.try() {
		return min(s.then, retryPause)
	}
	defer s.visiting.end()
	// The look is a part of the tick, but each tick gets somewhere.
	if spent := time.Since(start); spent > tickBudget*3/4 {
		start = start.Add(spent - tickBudget*3/4)
	}
	// What was dialed and not used yet is in the main pool, or else in the other.
	either := due[hooks.PoolUnknown]
	due[hooks.PoolUnknown] = 0
	due[hooks.PoolMain] += either
	unmet := 0
	rest := s.rest
	s.rest = [3]int{}
	for _, p := range []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline} {
		if due[p] > rest[p] {
			s.turns[p] = 0 // some are due that the visits of the last tick may have passed by
		}
		left, done := s.visit(p, due[p], start)
		if !done {
			s.rest = due
			s.rest[p] = left
			return tickPause
		}
		due[p] = 0
		if p == hooks.PoolMain {
			either = min(either, left)
			left -= either
			due[hooks.PoolPipeline] += either
		}
		unmet += left
	}
	if unmet == 0 {
		s.unmet = 0
		return s.then
	}
	// Somebody holds some: they may be idle soon, or not for a long time.
	s.unmet++
	return min(s.then, retryPause<<min(s.unmet-1, 8))
}

// left reports whether a cluster has closed the client of this node, because it
// is no member any more.
func (s *nodeState) left() bool {
	return s.unit.inner && s.unit.main() && s.unit.leases.len() == 0 && s.node.Main().Total == 0 && s.node.Gone()
}

// visit visits idle connections of a pool until those that are due have been met
// or all have been met twice, and returns how many were not met. When the tick's
// budget is spent before that, done is false, and the next call goes on from there:
// it would never come to an end if it began again.
func (s *nodeState) visit(pool hooks.Pool, due int, start time.Time) (left int, done bool) {
	if due == 0 {
		return 0, true
	}
	visits := 2 * s.idle(pool)
	if turns := s.turns[pool]; turns > 0 {
		visits = min(visits, turns)
	}
	s.turns[pool] = 0
	for ; visits > 0 && due > 0; visits-- {
		if s.m.ctx.Err() != nil || s.idle(pool) == 0 {
			break
		}
		if time.Since(start) > tickBudget {
			s.turns[pool] = visits
			return due, false
		}
		before, from := time.Now(), s.m.core.tracker.Elapsed()
		met, removed, err := s.node.Visit(pool, 0)
		if met == nil {
			break // nothing is free now
		}
		s.pings.answered(s, met, removed, err, from)
		if removed || met.View().LastUsed >= from { // it was due, not just the next in the queue
			due--
		}
		if took := time.Since(before); took > time.Millisecond {
			start = start.Add(took) // waiting for an answer is not work
		}
		if removed && errtext.IsTimeout(err) {
			return due, false // think again before the next one costs as much
		}
	}
	return due, true
}

func (s *nodeState) idle(p hooks.Pool) int {
	if p == hooks.PoolPipeline {
		return s.node.Pipeline().Idle
	}
	return s.node.Main().Idle
}

// askAgain asks a server that took nobody new whether it does now: only a new
// connection can tell, and without callers nobody makes one.
func (s *nodeState) askAgain(now time.Duration) time.Duration {
	const every = time.Second
	if wait := s.retryDialed + every - now; wait > 0 && s.retryDialed > 0 {
		return wait
	}
	s.retryDialed = now
	ctx, cancel := context.WithTimeout(s.m.ctx, every)
	defer cancel()
	if s.node.Fresh(ctx) == nil {
		return 0
	}
	return every
}
