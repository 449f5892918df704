package serverside

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// listedFor is how long the last CLIENT LIST of a client is relied on.
	listedFor = time.Second
	// batch is how many clients are listed again at a time.
	batch = 100
)

// sweep is one pass over all nodes. One goroutine at a time works on it.
type sweep struct {
	*Reaper
	lock *lock
	rep  Report
	torn MalformedError
	next time.Time // when the next client may be closed
}

func (r *Reaper) sweep(ctx context.Context, l *lock) (Report, error) {
	s := &sweep{Reaper: r, lock: l, rep: Report{Started: time.Now(), DryRun: r.policy.DryRun}}
	err := s.run(ctx)
	s.rep.Took = time.Since(s.rep.Started)
	return s.rep, err
}

func (s *sweep) run(ctx context.Context) error {
	if s.lock != nil {
		ok, err := s.lock.acquire(ctx)
		if err != nil {
			return err
		}
		if !ok {
			s.rep.Busy = true
			return nil
		}
	}
	var lockErr error
	if s.policy.DryRun && s.lockKey != "" {
		s.rep.Busy, lockErr = newLock(s.rdb, s.lockKey, s.lockTTL).held(ctx)
	}
	lost := false
	err := eachNode(ctx, s.rdb, func(ctx context.Context, node string, c Commander) error {
		if lost {
			return nil
		}
		err := s.node(ctx, node, c)
		lost = errors.Is(err, ErrLockLost)
		return err
	})
	if lockErr != nil {
		err = errors.Join(err, lockErr)
	}
	return with(err, &s.torn)
}

func (s *sweep) node(ctx context.Context, node string, c Commander) error {
	conn, done := sticky(c)
	defer done()
	own, err := ownID(ctx, conn)
	if err != nil {
		return fail(ctx, "ask for its own id", node, err)
	}
	all, err := listNode(ctx, node, conn, nil, &s.torn)
	if err != nil {
		return err
	}
	seen := time.Now()
	all = slices.DeleteFunc(all, func(c Client) bool { return c.ID == own })
	s.rep.Nodes++
	s.rep.Seen += len(all)

	k := &killer{sweep: s, node: node, conn: conn, own: own, maxAge: s.policy.MaxAge > 0}
	if s.policy.inBulk() {
		done, err := k.bulk(ctx, all)
		if done || err != nil {
			return err
		}
	}
	return k.each(ctx, s.choose(ctx, all), seen)
}

// ownID returns the id of the connection; 0 where the server does not allow the question: SKIPME
// protects the connection as well.
func ownID(ctx context.Context, conn Commander) (int64, error) {
	id, err := conn.Do(ctx, "CLIENT", "ID").Int64()
	if err != nil && answered(err) && denied(err) {
		return 0, nil
	}
	return id, err
}

// choose returns the clients to be closed, the oldest first.
func (s *sweep) choose(ctx context.Context, all []Client) []Client {
	var out []Client
	for i := range all {
		c := &all[i]
		if !s.due(c) {
			continue
		}
		s.rep.Due++
		if s.spared(ctx, *c) {
			s.rep.Spared++
			continue
		}
		out = append(out, *c)
	}
	slices.SortStableFunc(out, func(a, b Client) int {
		return int(b.Age/time.Second - a.Age/time.Second)
	})
	return out
}

// due reports whether the client is selected and past a limit.
func (s *sweep) due(c *Client) bool {
	return s.match.match(c) && s.policy.selects(c) && s.policy.due(c) != ""
}

// spared calls Policy.Spare; if that panics, the client is spared.
func (s *sweep) spared(ctx context.Context, c Client) (yes bool) {
	if s.policy.Spare == nil {
		return false
	}
	yes = true
	s.guard(ctx, "Policy.Spare", func() { yes = s.policy.Spare(c) })
	return yes
}

// killer closes clients of one node.
type killer struct {
	*sweep
	node   string
	conn   Commander
	own    int64 // id of conn; 0: not known
	maxAge bool  // the node has MAXAGE, as far as known
	noIDs  bool  // the node has no CLIENT LIST ID
}

// each closes the clients one by one, based on what was last seen of them.
func (k *killer) each(ctx context.Context, queue []Client, seen time.Time) error {
	defer func() { k.rep.Left += len(queue) }()
	if k.policy.DryRun {
		for i := range queue {
			k.report(ctx, Kill{Client: queue[i], Count: 1})
		}
		return nil
	}
	known := len(queue) // this many at the head of the queue were listed at that time
	for len(queue) > 0 {
		if err := k.pace(ctx); err != nil {
			return err
		}
		if err := k.hold(ctx); err != nil {
			return err
		}
		if known == 0 || time.Since(seen) > listedFor {
			// They may be busy, renamed or gone by now.
			n := min(len(queue), batch)
			again, err := k.again(ctx, queue[:n])
			if err != nil {
				return err
			}
			// Count from the reply on: otherwise a slow server would make us list the clients
			// for ever.
			queue, known, seen = append(again, queue[n:]...), len(again), time.Now()
			continue
		}
		c := queue[0]
		queue, known = queue[1:], known-1
		n, err := k.kill(ctx, &c)
		if err == nil && n > 0 {
			k.rep.Closed++
			k.report(ctx, Kill{Client: c, Count: 1})
			if rate := k.policy.PerSecond; rate > 0 {
				k.next = time.Now().Add(time.Second / time.Duration(rate))
			}
			continue
		}
		if err := k.missed(ctx, 1, err); err != nil {
			return err
		}
	}
	return nil
}

// missed counts clients that CLIENT KILL did not report as closed, and returns the error, if there
// is one.
func (k *killer) missed(ctx context.Context, n int, err error) error {
	switch {
	case err == nil && k.own != 0 && n > 0:
		// Another connection means that go-redis sent it twice: the first reply was lost.
		now, idErr := ownID(ctx, k.conn)
		if idErr != nil || now != k.own {
			k.own = now
			k.rep.Unknown += n
			return idErr
		}
		k.rep.Gone += n
	case err == nil:
		k.rep.Gone += n
	case answered(err):
		k.rep.Refused += n
	default:
		k.rep.Unknown += n
	}
	return k.failed(ctx, err)
}

// again lists the clients once more and returns those that are still to be closed.
func (k *killer) again(ctx context.Context, old []Client) ([]Client, error) {
	ids := make([]int64, len(old))
	for i := range old {
		ids[i] = old[i].ID
	}
	var torn MalformedError // those were counted the first time
	var now []Client
	var err error
	if !k.noIDs {
		now, err = listNode(ctx, k.node, k.conn, ids, &torn)
		k.noIDs = isSyntax(err)
	}
	if k.noIDs { // before Redis 6.2
		now, err = listNode(ctx, k.node, k.conn, nil, &torn)
	}
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]*Client, len(now))
	for i := range now {
		byID[now[i].ID] = &now[i]
	}
	out := make([]Client, 0, len(old))
	for i := range old {
		c := byID[old[i].ID]
		switch {
		case c == nil || c.Addr != old[i].Addr || !k.due(c):
			k.rep.Gone++
		case k.spared(ctx, *c):
			k.rep.Spared++
		default:
			out = append(out, *c)
		}
	}
	return out, nil
}

// kill closes one client and returns how many were closed. The id alone is not enough: ids start
// again when the server restarts, or when another server takes its address.
func (k *killer) kill(ctx context.Context, c *Client) (int64, error) {
	args := []any{"CLIENT", "KILL", "ID", strconv.FormatInt(c.ID, 10), "SKIPME", "YES", "TYPE", string(k.policy.Type)}
	if c.Addr != "" {
		args = append(args, "ADDR", c.Addr)
	}
	if k.maxAge && k.policy.due(c) == ReasonAge {
		n, err := k.conn.Do(ctx, append(slices.Clip(args), "MAXAGE", seconds(k.policy.MaxAge))...).Int64()
		if !isSyntax(err) {
			return n, err
		}
		k.maxAge = false
	}
	return k.conn.Do(ctx, args...).Int64()
}

// bulk makes the server close them all. It reports false if the server cannot do that.
func (k *killer) bulk(ctx context.Context, all []Client) (bool, error) {
	due := 0
	for i := range all {
		switch c := &all[i]; {
		case k.due(c):
			due++
		case k.match.match(c) && k.policy.due(c) != "":
			return false, nil // the policy does not select them, which the server cannot take into account
		}
	}
	if due == 0 {
		return true, nil
	}
	if err := k.hold(ctx); err != nil {
		return false, err
	}
	args := []any{"CLIENT", "KILL", "SKIPME", "YES", "TYPE", string(k.policy.Type), "MAXAGE", seconds(k.policy.MaxAge)}
	if k.policy.User != "" {
		args = append(args, "USER", k.policy.User)
	}
	n, err := k.conn.Do(ctx, args...).Int64()
	switch {
	case isSyntax(err), err != nil && strings.HasPrefix(err.Error(), "ERR No such user"):
		// Of a user who was deleted there may still be connections.
		k.maxAge = !isSyntax(err)
		return false, nil
	}
	k.rep.Due += max(due, int(n)) // some may have reached the age meanwhile
	k.rep.Closed += int(n)
	if n > 0 {
		k.report(ctx, Kill{Reason: ReasonAge, Count: int(n)})
	}
	if left := due - int(n); left > 0 {
		return true, k.missed(ctx, left, err)
	}
	return true, k.failed(ctx, err)
}

func (k *killer) report(ctx context.Context, kill Kill) {
	kill.Node, kill.DryRun = k.node, k.policy.DryRun
	if kill.Reason == "" {
		kill.Reason = k.policy.due(&kill.Client)
	}
	k.rep.Kills = append(k.rep.Kills, kill)
	text := "lifeguard/serverside: client closed"
	switch {
	case kill.DryRun:
		text = "lifeguard/serverside: client would be closed"
	case kill.Client.ID == 0:
		text = "lifeguard/serverside: clients closed"
	}
	k.log.InfoContext(ctx, text, "kill", kill)
	if k.onKill != nil {
		k.guard(ctx, "WithKillHandler", func() { k.onKill(kill) })
	}
}

// pace waits until the next client may be closed.
func (k *killer) pace(ctx context.Context) error { return sleep(ctx, time.Until(k.next)) }

// hold makes sure that we own the lock for the time of a command.
func (k *killer) hold(ctx context.Context) error {
	if k.lock == nil {
		return nil
	}
	left := time.Until(k.lock.until)
	if left > k.lock.ttl/2 {
		return nil
	}
	ok, err := k.lock.extend(ctx, k.lock.ttl)
	switch {
	case ok:
		return nil
	case errors.Is(err, errNoCompare) && left > 0:
		return nil // it cannot be extended, and it is still ours
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = errors.New("it expired, or somebody took it")
	}
	k.lock.until = time.Time{}
	return &Error{Op: "lock", Node: k.lock.key, Kind: ErrLockLost, Err: err}
}

func (k *killer) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return fail(ctx, "kill", k.node, err)
}

// isSyntax reports whether the server does not know an option.
func isSyntax(err error) bool {
	return err != nil && strings.Contains(strings.ToLower(err.Error()), "err syntax error")
}

func seconds(d time.Duration) string { return fmt.Sprint(int64(d / time.Second)) }
