package upkeep

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Node is a server whose connections are looked after. Its exported fields are set
// before it is given to Keeper.Add; all functions may be called from any goroutine.
type Node struct {
	Tracked  *conntrack.Node
	MinIdle  int  // MinIdleConns of its pool
	Inner    bool // it is one of several, of which the others may know whether it still counts
	Blocking bool // it is a second pool, for blocking commands, of a server that has a Node

	Leases     func() int // how many are held: then it is not forgotten
	Unanswered func()     // hears that it answers nobody, and may block; nil: nobody does
	MaxClients func(int)  // hears how many clients its server takes; nil: nobody does
	Dropped    func()     // hears that it has left its cluster and was dropped; nil: nobody does

	k        *Keeper
	schedule schedule
	main     poolState
	pipeline poolState
	detect   detection
	pings    pings
	clients  clients

	lastReadOnly atomic.Int64
	silentUntil  atomic.Int64 // it is taken for one that answers nobody, ns on the tracker's clock

	// The rest belongs to the look under way, but for the atomics.

	survey   survey        // the last one; its lists are used again
	looked   time.Duration // when it was made
	unmet    int           // sweeps in a row that did not meet all that was due
	rest     [3]int        // what the last tick had no time for, by pool
	turns    [3]int        // how many visits it had left for that
	then     time.Duration // when to come back after that
	visiting turn          // taken by whoever visits: one idle connection at a time

	learnAgain  atomic.Bool
	automatic   atomic.Int64  // heartbeat by the server's timeout in ns, 0 none
	retryDialed time.Duration // when a server that took nobody new was asked last

	inquiring turn          // taken by whoever asks the server something; what follows is theirs
	limit     int           // how many clients the server takes, 0 for not known
	compared  bool          // MaxClients has been told of it
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
	frozen     = 3 * time.Second        // a timer later than that means that the process did not run
)

// wake makes the node be looked at now. It never blocks and may be called under
// go-redis's locks.
func (n *Node) wake() { n.schedule.within(0) }

// soon is how long after its first use, or its dial, something may be due on a
// connection.
func (n *Node) soon() time.Duration {
	d := learnPause
	part := func(of time.Duration, n time.Duration) {
		if of > 0 {
			d = min(d, of/n)
		}
	}
	part(n.k.tracker.MaxAge(), 10)
	part(time.Duration(n.k.heartbeat.Load()), 4)
	part(time.Duration(n.k.maxIdle.Load()), 20)
	part(n.k.cfg.Detection.After, 2)
	return d
}

// Look does what is due on the node, at most tickBudget of it, and returns when to come
// back. late is by how much the timer was. The schedule of the node calls it, never twice
// at once; of a Keeper that was closed, a test may.
func (n *Node) Look(late time.Duration) time.Duration {
	t := n.k.tracker
	if n.k.ctx.Err() != nil {
		return never
	}
	if late > frozen && t.Unverified() < t.Elapsed()-late {
		t.Distrust() // the process stood still
	}
	t.LookAtClocks()
	n.k.lookAround()
	return n.round()
}

// round looks at every connection of the node, gives orders, and visits.
func (n *Node) round() time.Duration {
	now := n.k.tracker.Elapsed()
	if n.Tracked.Len() == 0 {
		if n.left() {
			n.k.Drop(n)
			if n.Dropped != nil {
				n.Dropped()
			}
		}
		return never // the next dial comes here
	}
	if n.rest != [3]int{} && now-n.looked < lookAgain && !n.detect.holds(now) {
		return n.sweepOn(time.Now(), n.rest)
	}
	start := time.Now()
	look := &n.survey
	look.begin(n, now)
	n.Tracked.Range(look.conn)
	look.old()
	look.dirty()
	next := min(look.next, n.main.shrink(n, look), n.pipeline.shrink(n, look))
	if look.away && look.waiting {
		next = min(next, n.askAgain(now))
	}
	next = min(next, n.detect.look(n, look))
	n.looked = now
	if n.detect.holds(now) {
		return next // a PING of ours got no answer: it is being found out whether anybody does
	}
	if look.due == [3]int{} { // they are commands like any other, and must not meet what is to be verified
		next = min(next, n.inquire(now))
	}
	n.then = next
	return n.sweepOn(start, look.due)
}

// left reports whether a cluster has closed the client of this node, because it
// is no member any more.
func (n *Node) left() bool {
	return n.Inner && !n.Blocking && n.Leases() == 0 && n.Tracked.Main().Total == 0 && n.Tracked.Gone()
}

// askAgain asks a server that took nobody new whether it does now: only a new
// connection can tell, and without callers nobody makes one.
func (n *Node) askAgain(now time.Duration) time.Duration {
	const every = time.Second
	if wait := n.retryDialed + every - now; wait > 0 && n.retryDialed > 0 {
		return wait
	}
	n.retryDialed = now
	ctx, cancel := context.WithTimeout(n.k.ctx, every)
	defer cancel()
	if n.Tracked.PingNew(ctx) == nil {
		return 0
	}
	return every
}
