package upkeep

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Node is a server whose connections are maintained. Its exported fields are set before it is given
// to Keeper.Add; all functions may be called from any goroutine.
type Node struct {
	Tracked  *conntrack.Node
	MinIdle  int  // MinIdleConns of its pool
	Inner    bool // it is one of several nodes, and the others may know whether it is still a member
	Blocking bool // it is a second pool, for blocking commands, of a server that has a Node

	Leases     func() int // how many leases are held: a node with leases is not forgotten
	Unanswered func()     // called when the node does not respond; may block; nil: none
	MaxClients func(int)  // called with the number of clients that the server accepts; nil: none
	Dropped    func()     // called when the node has left its cluster, and was stopped and closed; nil: none
	AtCheck    func()     // called with each check of any node, by one goroutine at a time; may block; nil: none

	k        *Keeper
	schedule schedule
	main     poolState
	pipeline poolState
	detect   detection
	pings    pings
	clients  clients

	lastReadOnly atomic.Int64

	// Except for the atomics, the rest belongs to the check in progress.

	survey   survey        // the last survey; its lists are reused
	surveyed time.Duration // when the last survey was made
	unmet    int           // consecutive sweeps that did not reach everything that was due
	rest     [3]int        // what the last tick had no time for, by pool
	turns    [3]int        // how many visits were left for that
	then     time.Duration // when to come back after that
	visiting turn          // held during a visit: one idle connection at a time

	settingsAgain atomic.Bool
	automatic     atomic.Int64  // heartbeat by the server's timeout in ns, 0 none
	retryDialed   time.Duration // when a server that accepted no new connections was last probed

	querying      turn          // held by whoever asks the server something; it guards the fields below
	limit         int           // how many clients the server accepts, 0 for unknown
	compared      bool          // MaxClients has been called with it
	settingsKnown bool          // the server's timeout has been asked for
	tryAgain      time.Duration // no question before that, on the tracker's clock
	noReplies     int           // consecutive questions without a reply
}

const (
	tickBudget    = 1500 * time.Microsecond // work of one tick, so that it hardly ever takes 2 ms
	tickPause     = 2 * time.Millisecond    // between ticks of one round
	retryPause    = 20 * time.Millisecond
	surveyEvery   = 50 * time.Millisecond
	unusedPause   = 5 * time.Second
	settingsPause = 100 * time.Millisecond // until the server can be asked for its timeout again
	frozen        = 3 * time.Second        // a timer later than that means that the process did not run
)

// wake makes the node check its connections now. It never blocks and may be called under go-redis's
// locks.
func (n *Node) wake() { n.schedule.within(0) }

// used is called when the node is used again, for the first time, or no longer. It may be called
// under go-redis's locks.
func (n *Node) used() { n.schedule.within(n.soon()) }

// Stop ends the maintenance of the node: no further checks are made.
func (n *Node) Stop() { n.schedule.stop() }

// soon returns how long after its first use, or its dial, something may be due on a connection.
func (n *Node) soon() time.Duration {
	d := settingsPause
	part := func(of time.Duration, n time.Duration) {
		if of > 0 {
			d = min(d, of/n)
		}
	}
	part(n.k.tracker.MaxAge(), 10)
	part(time.Duration(n.k.heartbeat.Load()), 4)
	part(time.Duration(n.k.maxIdle.Load()), 20)
	part(n.k.detection.After, 2)
	return d
}

// Check does what is due on the node, for at most tickBudget, and returns when to come back. late is
// how late the timer fired. The node's schedule calls it, never twice at once; after Stop a test may
// call it.
func (n *Node) Check(late time.Duration) time.Duration {
	t := n.k.tracker
	if n.k.ctx.Err() != nil {
		return never
	}
	if late > frozen && t.Unverified() < t.Elapsed()-late {
		t.Distrust() // the process was suspended
	}
	t.CheckClocks()
	if n.AtCheck != nil && n.k.atCheck.CompareAndSwap(false, true) {
		go func() {
			defer n.k.atCheck.Store(false)
			n.AtCheck()
		}()
	}
	return n.round()
}

// round checks every connection of the node, gives orders, and visits.
func (n *Node) round() time.Duration {
	now := n.k.tracker.Elapsed()
	if n.Tracked.Len() == 0 {
		if n.hasLeft() {
			n.Stop()
			n.Tracked.Close()
			if n.Dropped != nil {
				n.Dropped()
			}
		}
		return never // the next dial wakes the node
	}
	if n.rest != [3]int{} && now-n.surveyed < surveyEvery && !n.detect.holds(now) {
		return n.sweepOn(time.Now(), n.rest)
	}
	start := time.Now()
	s := &n.survey
	s.begin(n, now)
	n.Tracked.Range(s.conn)
	s.old()
	s.sessionState()
	next := min(s.next, n.main.shrink(n, s), n.pipeline.shrink(n, s))
	if s.refusing && s.waiting {
		next = min(next, n.askAgain(now))
	}
	next = min(next, n.detect.act(n, s))
	n.surveyed = now
	if n.detect.holds(now) {
		return next // a PING of ours got no answer: a probe is finding out whether the node answers anybody
	}
	if s.due == [3]int{} { // a question is a command like any other, and must not get a connection that is to be validated
		next = min(next, n.query(now))
	}
	n.then = next
	return n.sweepOn(start, s.due)
}

// hasLeft reports whether a cluster has closed this node's client, because the node is no longer a
// member.
func (n *Node) hasLeft() bool {
	return n.Inner && !n.Blocking && n.Leases() == 0 && n.Tracked.Main().Total == 0 && n.Tracked.Gone()
}

// askAgain probes a server that accepted no new connections: only a new connection can tell whether
// it does now, and without callers nobody opens one.
func (n *Node) askAgain(now time.Duration) time.Duration {
	const every = time.Second
	if wait := n.retryDialed + every - now; wait > 0 && n.retryDialed > 0 {
		return wait
	}
	n.retryDialed = now
	ctx, cancel := context.WithTimeout(n.k.ctx, every)
	defer cancel()
	if n.Tracked.PingNew(ctx, every) == nil {
		return 0
	}
	return every
}
