package upkeep

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// query asks the server what maintenance wants to know, and returns when to come back. It runs
// beside the checks, because a reply may take long, and the checks are what detects a hung server.
func (n *Node) query(now time.Duration) time.Duration {
	if !n.querying.try() {
		return never // the one in progress schedules the next check
	}
	wait := n.settingsDueIn(now)
	clients := n.clientsDue(now)
	if wait > 0 && !clients {
		n.querying.end()
		return wait
	}
	go func() {
		next := wait
		if wait <= 0 {
			next = n.querySettings(now)
		}
		if clients {
			n.queryClients(now)
		}
		n.querying.end()
		n.schedule.within(next)
	}()
	return never
}

// settingsDueIn returns how long to wait before querySettings may ask the server: 0 means now.
func (n *Node) settingsDueIn(now time.Duration) time.Duration {
	if n.k.heartbeat.Load() >= 0 {
		return never
	}
	if n.settingsAgain.Swap(false) {
		n.settingsKnown = false
	}
	wait, main := n.tryAgain-now, n.Tracked.Main()
	switch {
	case n.settingsKnown || main.Total == 0:
		return never
	case wait > 0 || n.detect.probing(now) || main.Idle == 0:
		return max(wait, settingsPause) // no event says when a connection becomes idle
	}
	return 0
}

// querySettings asks the server once for its maxclients and for its `timeout`, the idle time after which it
// closes a connection (https://redis.io/docs/latest/operate/oss_and_stack/management/config/), and
// again after the server has closed an idle one. Where the server does not allow the question there
// is no automatic heartbeat. It returns when to come back.
func (n *Node) querySettings(now time.Duration) time.Duration {
	if !n.compared {
		most, err := n.maxClients()
		if again := n.queryAgainIn(err); again > 0 {
			n.tryAgain = now + again
			return again
		}
		if n.compared = true; err == nil && n.MaxClients != nil {
			n.MaxClients(most)
		}
	}
	v, err := n.Tracked.Config("timeout")
	if again := n.queryAgainIn(err); again > 0 {
		n.tryAgain = now + again
		return again
	}
	n.settingsKnown = true
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

// queryAgainIn returns when to ask again after a question that found no connection, or got no reply:
// the latter has cost a connection. 0 if there is nothing to ask again.
func (n *Node) queryAgainIn(err error) time.Duration {
	switch {
	case errors.Is(err, conntrack.ErrWouldWait):
		return 100 * time.Millisecond
	case errtext.IsTimeout(attempt.Reveal(err)):
		n.noReplies++
		return min(time.Second<<min(n.noReplies-1, 6), time.Minute)
	}
	n.noReplies = 0
	return 0
}

// clients holds how many clients the server has and accepts, including those of others. It is
// queried now and then while somebody wants to know.
type clients struct {
	most, now atomic.Int64
	why       atomic.Pointer[string] // why it is not known
	last      atomic.Int64           // when it was last queried, on the tracker's clock; 0: never
}

const (
	clientsEvery  = 10 * time.Second
	clientsWanted = 2 * time.Minute // after WantClients
)

func (c *clients) due(now time.Duration) bool {
	last := c.last.Load()
	return last == 0 || now-time.Duration(last) >= clientsEvery
}

// clientsDue reports whether it is time to ask the server for its clients, and an idle connection
// is available for it. It needs no timer: WantClients wakes the node.
func (n *Node) clientsDue(now time.Duration) bool {
	asked := n.k.asked.Load()
	wanted := asked != 0 && now-time.Duration(asked) <= clientsWanted && !n.Blocking
	return wanted && n.clients.due(now) && !n.detect.probing(now) && n.Tracked.Main().Idle > 0
}

func (n *Node) queryClients(now time.Duration) {
	c := &n.clients
	text, err := n.Tracked.Info("clients")
	c.last.Store(max(int64(now), 1))
	if err != nil {
		var reply redis.Error
		if errors.As(err, &reply) { // otherwise the refusal does not come from the server
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
	if c.most.Load() == 0 { // servers before Redis 6 do not report it there
		if most, err := n.maxClients(); err == nil {
			c.most.Store(int64(most))
		}
	}
}

// maxClients asks the server once how many clients it accepts.
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

// Clients returns how many clients the server has and accepts, including those of others, 0 for
// unknown, and why the server refused to say. See Keeper.WantClients.
func (n *Node) Clients() (now, most int, refused string) {
	c := &n.clients
	if why := c.why.Load(); why != nil {
		refused = *why
	}
	return int(c.now.Load()), int(c.most.Load()), refused
}
