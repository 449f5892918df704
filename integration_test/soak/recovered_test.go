package soak

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

const soon = 15 * time.Second

// checkStats is called with every sample of a client while faults happen.
func (s *side) checkStats(last, now monitor.Stats) {
	for _, n := range append([]monitor.NodeStats{{Name: "all", Numbers: now.Numbers}}, now.Nodes...) {
		if n.InUse < 0 || n.Idle < 0 || n.Waiting < 0 || n.Leases < 0 || n.Dialing < 0 || n.Subscribed < 0 {
			s.bad.add("%s: a gauge of %s is below zero: %+v", s.name, n.Name, n.Numbers)
		}
		if n.Main.InUse > n.Main.Size || n.Main.Open > n.Main.Size+n.Main.InUse {
			s.bad.add("%s: the pool of %s is larger than its size: %+v", s.name, n.Name, n.Main)
		}
	}
	type counter struct {
		name          string
		before, after uint64
	}
	for _, c := range []counter{
		{"dialed", last.Dialed, now.Dialed}, {"closed", last.ClosedAll(), now.ClosedAll()},
		{"retries", last.RetriesAll(), now.RetriesAll()}, {"unknown outcomes", last.UnknownOutcomes, now.UnknownOutcomes},
		{"hits", last.Hits, now.Hits}, {"misses", last.Misses, now.Misses}, {"waits", last.Waits, now.Waits},
		{"commands", last.Command.Count, now.Command.Count}, {"leases held", last.Hold.Count, now.Hold.Count},
	} {
		if c.after < c.before {
			s.bad.add("%s: counter of %s fell from %d to %d", s.name, c.name, c.before, c.after)
		}
	}
}

// eventually is redistest.Eventually for what has more to say than one line.
func (r *round) eventually(what string, try func() error) {
	r.t.Helper()
	var err error
	for end := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
		if time.Now().After(end) {
			r.t.Errorf("not within %v: %s: %v", soon, what, err)
			return
		}
	}
}

// recovered checks, when the faults are over, that each client works as if there had
// been none, and that its numbers are those of the servers.
func (r *round) recovered(sides []*side) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, s := range sides {
		s.rdb.SetMaxAge(0)
		s.rdb.SetMaxIdle(0)
		s.rdb.SetHeartbeat(200 * time.Millisecond) // finds idle ones that were cut
		r.eventually(s.name+": commands work again", func() error {
			for _, tag := range s.tags {
				for range 5 {
					if err := s.rdb.Set(ctx, tag+"recovered", "x", 0).Err(); err != nil {
						return err
					}
				}
			}
			return nil
		})
		r.eventually(s.name+": no lease is held", func() error {
			runtime.GC() // finds those that were dropped
			if l := s.rdb.Leases(); len(l) > 0 {
				return fmt.Errorf("%v", l)
			}
			return nil
		})
		r.slots(ctx, s)
		r.counted(ctx, s)
		r.quiet(s)
	}
	r.fresh(ctx, sides[0], sides[1])
	r.eventually("the server has the connections that the clients list", func() error {
		return agree(sides[:2], r.server.NumClients(r.t))
	})
	r.eventually("the proxy has them, too", func() error { return agree(sides[:2], r.proxy.Conns()) })
	r.eventually("the cluster has the connections that its client lists", func() error {
		n := 0
		for _, node := range r.cluster.Nodes() {
			for _, c := range node.ClientList(r.t) {
				if c.Normal() {
					n++
				}
			}
		}
		return agree(sides[2:], n)
	})
}

func agree(sides []*side, there int) error {
	listed, open := 0, 0
	for _, s := range sides {
		listed += len(s.rdb.Conns())
		open += s.rdb.Stats().Open
	}
	if listed != there || open != there {
		return fmt.Errorf("%d there, %d listed, %d in Stats", there, listed, open)
	}
	return nil
}

// slots takes the whole pool of each node, which shows that no slot is lost.
func (r *round) slots(ctx context.Context, s *side) {
	for _, tag := range s.tags {
		r.eventually(s.name+": the whole pool can be leased", func() error {
			var held []*managed.Conn
			defer func() {
				for _, c := range held {
					c.Release()
				}
			}()
			for i := range poolSize {
				c, err := s.leases.try(ctx, tag)
				if err != nil {
					return fmt.Errorf("lease %d of %d: %w", i+1, poolSize, err)
				}
				held = append(held, c)
				if err := c.Ping(ctx).Err(); err != nil {
					return err
				}
			}
			if c, err := s.leases.try(ctx, tag); !errors.Is(err, redis.ErrPoolTimeout) {
				if err == nil {
					c.Release()
				}
				return fmt.Errorf("lease %d of %d: %v", poolSize+1, poolSize, err)
			}
			return nil
		})
	}
}

var stat = regexp.MustCompile(`cmdstat_(incr|set|get):calls=(\d+)`)

var publishes = regexp.MustCompile(`cmdstat_publish:calls=(\d+)`)

// publishedOnce compares what callers of the cluster were told of PUBLISH with
// how many its nodes have executed, none of which was restarted.
func (r *round) publishedOnce(s *side) {
	var n uint64
	for _, node := range r.cluster.Nodes() {
		info, err := node.Admin().Info(context.Background(), "commandstats").Result()
		if err != nil {
			r.t.Fatal(err)
		}
		if m := publishes.FindStringSubmatch(info); m != nil {
			c, _ := strconv.ParseUint(m[1], 10, 64)
			n += c
		}
	}
	done, perhaps := s.published[success].Load(), s.published[unknown].Load()
	if n < done || n > done+perhaps {
		r.t.Errorf("%s: callers were told of %d PUBLISH, and of %d unknown outcomes; the nodes executed %d", s.name, done, perhaps, n)
	}
}

// served is how many INCR, SET and GET the servers of a side have executed.
func (r *round) served(s *side, reset bool) uint64 {
	nodes := []*redistest.Server{r.server}
	if s.name == "cluster" {
		nodes = nil
		for i := range shards {
			nodes = append(nodes, r.cluster.Master(i))
		}
	}
	var sum uint64
	for _, n := range nodes {
		if reset {
			if err := n.Admin().ConfigResetStat(context.Background()).Err(); err != nil {
				r.t.Fatal(err)
			}
		}
		info, err := n.Admin().Info(context.Background(), "commandstats").Result()
		if err != nil {
			r.t.Fatal(err)
		}
		for _, m := range stat.FindAllStringSubmatch(info, -1) {
			c, _ := strconv.ParseUint(m[2], 10, 64)
			sum += c
		}
	}
	return sum
}

// counted makes a known number of calls, and compares it with what the client
// counted and with what the server did.
func (r *round) counted(ctx context.Context, s *side) {
	r.served(s, true)
	before := s.rdb.RetryStats()
	var want uint64
	one := func(err error) {
		if want++; err != nil {
			r.t.Errorf("%s: an error without a fault: %v", s.name, err)
		}
	}
	for i := range 30 {
		key := s.tags[i%len(s.tags)] + "recovered:" + strconv.Itoa(i)
		one(s.rdb.Incr(ctx, key).Err())
		one(s.rdb.Set(ctx, key, i, 0).Err())
		one(s.batches.Incr(ctx, key).Err())
		one(s.always.Incr(ctx, key).Err())
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 5 {
				p.Incr(ctx, key)
			}
			return nil
		})
		want += 4
		one(err)
		_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, key)
			p.Set(ctx, key, i, 0)
			return nil
		})
		want++
		one(err)
	}
	after := s.rdb.RetryStats()
	if n := r.served(s, false); n != want {
		r.t.Errorf("%s: %d calls, and the servers executed %d", s.name, want, n)
	}
	if n := after.Calls - before.Calls; n != want {
		r.t.Errorf("%s: %d calls, and the client counted %d", s.name, want, n)
	}
	if after.Retries != before.Retries {
		r.t.Errorf("%s: retries without a fault", s.name)
	}
}

// quiet checks the gauges of a client that does nothing, and its counters
// against each other.
func (r *round) quiet(s *side) {
	r.eventually(s.name+": all gauges are zero, and the counters agree", func() error {
		st := s.rdb.Stats()
		if st.InUse != 0 || st.Waiting != 0 || st.Leases != 0 || st.Dialing != 0 || st.BreakersOpen != 0 || st.Subscribed != 0 {
			return fmt.Errorf("in use %d, waiting %d, leases %d, dialing %d, breakers open %d, subscribed %d",
				st.InUse, st.Waiting, st.Leases, st.Dialing, st.BreakersOpen, st.Subscribed)
		}
		if st.Dialed != st.ClosedAll()+uint64(st.Open) {
			return fmt.Errorf("dialed %d, closed %d, open %d", st.Dialed, st.ClosedAll(), st.Open)
		}
		if d, c := s.events.of(hooks.Dialed), s.events.of(hooks.Closed); d != st.Dialed || c != st.ClosedAll() {
			return fmt.Errorf("events: %d dialed, %d closed; counted: %d, %d", d, c, st.Dialed, st.ClosedAll())
		}
		var ended uint64
		for _, n := range s.rdb.CloseReasons() {
			ended += n
		}
		if ended != st.ClosedAll() {
			return fmt.Errorf("endings %d, closed %d", ended, st.ClosedAll())
		}
		if a, b := s.events.of(hooks.Acquired), s.events.of(hooks.Released)+s.events.of(hooks.Reclaimed); a != b {
			return fmt.Errorf("events: %d leases given out, %d given back", a, b)
		}
		return nil
	})
}

// fresh checks that the cache still notices the writes of others, after all that.
func (r *round) fresh(ctx context.Context, writer, cached *side) {
	for i := range 20 {
		key, val := "fresh:"+strconv.Itoa(i), strconv.Itoa(i)
		_ = cached.rdb.Get(ctx, key) // so that it has something to forget
		if err := writer.rdb.Set(ctx, key, val, 0).Err(); err != nil {
			r.t.Error(err)
		}
		r.eventually("the client-side cache is fresh", func() error {
			if got, err := cached.rdb.Get(ctx, key).Result(); err != nil || got != val {
				return fmt.Errorf("GET is %q, %v", got, err)
			}
			return nil
		})
	}
}

// shut ends a client in good order.
func (r *round) shut(s *side) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := s.rdb.CloseGracefully(ctx); err != nil {
		r.t.Errorf("%s: CloseGracefully: %v", s.name, err)
	}
	r.eventually(s.name+": after its end it has nothing open", func() error {
		if st := s.rdb.Stats(); st.Open != 0 || st.InUse != 0 || len(s.rdb.Conns()) != 0 {
			return fmt.Errorf("open %d, in use %d, listed %d", st.Open, st.InUse, len(s.rdb.Conns()))
		}
		return nil
	})
}

// settled waits until the servers have read all that reached them.
func (r *round) settled() {
	r.eventually("no socket is left", func() error {
		n := r.server.NumClients(r.t) + r.proxy.Conns()
		for _, node := range r.cluster.Nodes() {
			for _, c := range node.ClientList(r.t) {
				if c.Normal() {
					n++
				}
			}
		}
		if n > 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// ask returns how to read the keys of a side when its client has ended.
func (s *side) ask(admin *redis.Client) func([]string) []any {
	if s.name != "cluster" {
		return func(keys []string) []any {
			vals, err := admin.MGet(context.Background(), keys...).Result()
			if err != nil {
				s.t.Fatal(err)
			}
			return vals
		}
	}
	return func(keys []string) []any {
		rdb := redis.NewClusterClient(s.cluster.Options())
		defer rdb.Close()
		cmds, _ := rdb.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			for _, k := range keys {
				p.Get(context.Background(), k)
			}
			return nil
		})
		vals := make([]any, len(keys))
		for i, c := range cmds {
			switch v, err := c.(*redis.StringCmd).Result(); err {
			case nil:
				vals[i] = v
			case redis.Nil:
			default:
				s.t.Fatalf("GET %s: %v", keys[i], err)
			}
		}
		return vals
	}
}

// left is what is still in the queues of all servers.
func (r *round) left(admin *redis.Client) (all []string) {
	ctx := context.Background()
	for i := range 3 {
		l, err := admin.LRange(ctx, "q:"+strconv.Itoa(i), 0, -1).Result()
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, l...)
		q := r.cluster.Key(0, "") + "q:" + strconv.Itoa(i)
		if l, err = r.cluster.Master(0).Admin().LRange(ctx, q, 0, -1).Result(); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, l...)
	}
	return all
}
