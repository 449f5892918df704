package managed

import (
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// WithConnLimit limits how many connections the client has open at once, over all
// nodes and over main, pipeline, blocking and pub/sub connections; those to
// Sentinels do not count. A server may need a moment to notice that one is closed.
// Who needs one more waits: the connection that has been idle the longest, of
// whatever pool, is given up for it; while all are in use, until one is free or
// DialTimeout has passed, when the retry policy decides. From 2 on, one of them
// is kept for the client's own questions, such as whether a server that does not
// answer is alive. When the pools do not fit into it, that is logged. Default 0:
// no limit but the pools' own. Negative is an error.
func WithConnLimit(n int) Option {
	return func(s *settings) error {
		if n < 0 {
			return bad("WithConnLimit", n, "must not be negative; 0 for no limit")
		}
		s.connLimit = n
		return nil
	}
}

// unusedAfter is after what time a connection whose handshake has not begun is
// taken for an idle one.
const unusedAfter = 50 * time.Millisecond

// makeRoom gives up the connection that has been idle for the longest. It is
// called, again and again, while a dial waits for a place.
func (m *maintainer) makeRoom() {
	if !m.roomAsked.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer m.roomAsked.Store(false)
		c, idle := m.spared()
		if c == nil {
			return
		}
		if idle {
			c.Retire(hooks.ReasonIdle)
			if s := m.of(c.Node()); s != nil {
				s.sweep(m.ctx)
			}
		}
		// One that is in use all the time ends when it is taken the next time.
		c.Condemn(hooks.ReasonIdle)
	}()
}

// spared chooses the connection to give up: the longest idle one, or, while all
// are in use, any of the node that has the most. nil while one is on its way out.
func (m *maintainer) spared() (spared *conntrack.Conn, idle bool) {
	var oldest time.Duration
	perNode := map[*conntrack.Node][]*conntrack.Conn{}
	leaving := false
	// One that was dialed for a caller who then got another lies in its pool
	// without a handshake; so does, for a moment, each new one.
	unused := m.core.tracker.Elapsed() - unusedAfter
	m.core.tracker.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		if v.PubSub || v.Leased || !v.Ready && (v.Awaiting || v.LastUsed > unused) {
			return true
		}
		if c.Leaving() {
			// One whose node is not used any more waits for a sweep.
			leaving, idle = true, !v.Awaiting
			spared = c
			return false
		}
		perNode[c.Node()] = append(perNode[c.Node()], c)
		if !v.Awaiting && (!idle || v.LastUsed < oldest) {
			spared, oldest, idle = c, v.LastUsed, true
		}
		return true
	})
	switch {
	case idle:
		return spared, true
	case leaving:
		return nil, false
	}
	most := 1
	for _, conns := range perNode {
		if len(conns) > most {
			spared, most = conns[0], len(conns)
		}
	}
	return spared, false
}

// warnOfLimit says once when the pools of all nodes cannot fit into the budget.
func (c *core) warnOfLimit() {
	limit := c.set.connLimit
	if limit <= 0 || c.warned.Load() {
		return
	}
	want, nodes := 0, 0
	for _, s := range c.maintain.list() {
		if s.unit.main() {
			nodes++
		}
		want += s.unit.size()
	}
	if want > limit && c.warned.CompareAndSwap(false, true) {
		c.set.log.Warn("lifeguard: the pools of all nodes do not fit into WithConnLimit; callers will wait for connections of other pools to be given up",
			"limit", limit, "nodes", nodes, "pools", want)
	}
}

// size is how many connections the pools of a unit may open.
func (u *unit) size() int {
	o := u.rdb.Options()
	n := o.PoolSize
	if o.PipelinePoolSize == 0 {
		n += redis.DefaultPipelinePoolSize
	} else if o.PipelinePoolSize > 0 {
		n += o.PipelinePoolSize
	}
	return n
}

// compareWithServer says once when the pools of the node do not fit into what its
// server takes.
func (s *nodeState) compareWithServer() error {
	want := s.unit.size()
	if b := s.unit.blocking.unit.Load(); b != nil {
		want += b.size()
	}
	if limit := s.m.core.set.connLimit; limit > 0 {
		want = min(want, limit)
	}
	v, err := s.node.Config("maxclients")
	most, perr := strconv.Atoi(v)
	if err != nil || perr != nil || want <= most || !s.m.core.warnedServer.CompareAndSwap(false, true) {
		return err
	}
	s.m.core.set.log.Warn("lifeguard: the pools of this client alone do not fit into the server's maxclients; make PoolSize or PipelinePoolSize smaller, or use WithConnLimit",
		"maxclients", most, "pools", want, "node", s.node.Addr())
	return nil
}
