package upkeep

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// inquire asks the server what maintenance wants to know, and returns when to come
// back. The answer may take long, and the look must not: a hung server is found out by it.
func (n *Node) inquire(now time.Duration) time.Duration {
	if !n.inquiring.try() {
		return never // it brings us here when it is over
	}
	wait := n.learnIn(now)
	clients := n.clientsDue(now)
	if wait > 0 && !clients {
		n.inquiring.end()
		return wait
	}
	go func() {
		next := wait
		if wait <= 0 {
			next = n.learn(now)
		}
		if clients {
			n.askClients(now)
		}
		n.inquiring.end()
		n.schedule.within(next)
	}()
	return never
}

// learnIn is how long not to ask for what learn asks for: 0 for now.
func (n *Node) learnIn(now time.Duration) time.Duration {
	if n.k.heartbeat.Load() >= 0 {
		return never
	}
	if n.learnAgain.Swap(false) {
		n.learned = false
	}
	wait, main := n.tryAgain-now, n.Tracked.Main()
	switch {
	case n.learned || main.Total == 0:
		return never
	case wait > 0 || n.detect.asks(now) || main.Idle == 0:
		return max(wait, learnPause) // nobody tells when a connection is idle
	}
	return 0
}

// learn asks the server once for its maxclients, and for its `timeout`, the silence
// after which it closes a connection
// (https://redis.io/docs/latest/operate/oss_and_stack/management/config/), and again
// after it has closed an idle one. Where it may not be asked there is no automatic
// heartbeat. It returns when to come back.
func (n *Node) learn(now time.Duration) time.Duration {
	if !n.compared {
		most, err := n.maxClients()
		if again := n.askLater(err); again > 0 {
			n.tryAgain = now + again
			return again
		}
		if n.compared = true; err == nil && n.MaxClients != nil {
			n.MaxClients(most)
		}
	}
	v, err := n.Tracked.Config("timeout")
	if again := n.askLater(err); again > 0 {
		n.tryAgain = now + again
		return again
	}
	n.learned = true
	n.tryAgain = now + time.Minute
	var timeout time.Duration
	if seconds, perr := strconv.Atoi(v); err == nil && perr == nil && seconds > 0 {
		timeout = time.Duration(seconds) * time.Second
	}
	n.automatic.Store(int64(timeout * 3 / 4))
	n.Tracked.SetServerTimeout(timeout)
	if timeout > 0 {
		return tickPause
	}
	return never
}

// askLater is when to ask again after a question that found no connection, or got
// no answer: the latter cost one. 0 if there is nothing to ask again.
func (n *Node) askLater(err error) time.Duration {
	switch {
	case errors.Is(err, conntrack.ErrWouldWait):
		return 100 * time.Millisecond
	case errtext.IsTimeout(conntrack.Reveal(err)):
		n.unheard++
		return min(time.Second<<min(n.unheard-1, 6), time.Minute)
	}
	n.unheard = 0
	return 0
}

// clients is how many clients the server has and takes, everybody's. It is asked for now
// and then while somebody wants to know.
type clients struct {
	most, now atomic.Int64
	why       atomic.Pointer[string] // why it is not known
	last      atomic.Int64           // when it was last asked, on the tracker's clock; 0: never
}

const (
	clientsEvery  = 10 * time.Second
	clientsWanted = 2 * time.Minute // after WantClients
)

func (c *clients) due(now time.Duration) bool {
	last := c.last.Load()
	return last == 0 || now-time.Duration(last) >= clientsEvery
}

// clientsDue reports whether it is time to ask the server for its clients, and there is
// an idle connection to do it on. It needs no timer: WantClients wakes.
func (n *Node) clientsDue(now time.Duration) bool {
	asked := n.k.asked.Load()
	wanted := asked != 0 && now-time.Duration(asked) <= clientsWanted && !n.Blocking
	return wanted && n.clients.due(now) && !n.detect.asks(now) && n.Tracked.Main().Idle > 0
}

func (n *Node) askClients(now time.Duration) {
	c := &n.clients
	text, err := n.Tracked.Info("clients")
	c.last.Store(max(int64(now), 1))
	if err != nil {
		var reply redis.Error
		if errors.As(err, &reply) { // else it is not the server that says no
			why := err.Error()
			c.why.Store(&why)
		}
		return
	}
	c.why.Store(nil)
	for line := range strings.SplitSeq(text, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "connected_clients":
			c.now.Store(n)
		case "maxclients":
			c.most.Store(n)
		}
	}
	if c.most.Load() == 0 { // servers before Redis 6 do not say it there
		if most, err := n.maxClients(); err == nil {
			c.most.Store(int64(most))
		}
	}
}

// maxClients asks the server how many clients it takes, once.
func (n *Node) maxClients() (int, error) {
	if n.limit > 0 {
		return n.limit, nil
	}
	v, err := n.Tracked.Config("maxclients")
	if err != nil {
		return 0, err
	}
	if n.limit, err = strconv.Atoi(v); err != nil {
		return 0, errors.New("the server gave no number for maxclients")
	}
	return n.limit, nil
}

// Clients tells how many clients the server has and takes, everybody's, 0 for not known,
// and why it refused to say. See Keeper.WantClients.
func (n *Node) Clients() (now, most int, refused string) {
	c := &n.clients
	if why := c.why.Load(); why != nil {
		refused = *why
	}
	return int(c.now.Load()), int(c.most.Load()), refused
}
