package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/refusal"
)

// started is approximately when the process started.
var started = time.Now()

const (
	// indexTTL is longer than every instance's retention. It is also how long after its retention
	// an instance is removed from the index: if the server's clock jumps so far that living
	// instances are pruned, the index expires too, and that is noticed.
	indexTTL = MaxRetention + time.Hour
	// upkeepEvery is how often a Publisher prunes the index and extends its expiry: at every
	// publication if those are rarer.
	upkeepEvery = time.Minute
	// introduceEvery is how often a Publisher asks for the server's time and for the address under
	// which the server sees it.
	introduceEvery = 10 * time.Minute
)

// Publisher publishes the numbers of one Monitor. It is safe for concurrent use.
type Publisher struct {
	m   *monitor.Monitor
	rdb redis.UniversalClient
	c   *config
	id  string

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	now    chan chan error
	done   chan struct{}
	close  sync.Once
	closed error

	mu     sync.Mutex
	status Status

	// Used only by the goroutine.
	written bool          // something may be in Redis
	rev     uint64        // of the latest publication
	acked   uint64        // of the latest publication known to be written; 0: none
	kept    time.Time     // when the index was last maintained; zero: not yet
	counted uint64        // closed connections of ours that are in the fleet's sum
	unsure  uint64        // a publication that may have arrived; 0: none
	told    uint64        // closed connections that it reported
	lost    bool          // publications of ours were lost: the index must be created anew
	longest time.Duration // the longest LostAfter that the index ever had
	met     time.Time     // when introduce succeeded; zero: it has not
	ahead   time.Time     // the server's clock at met; zero: unknown
	seen    string        // our address as the server saw it then; "": unknown
	direct  bool          // the address belongs to one of our connections
	apart   bool          // MULTI is denied
	noInfo  bool          // INFO is denied
	dialed  uint64        // number of connections dialed when the servers were last queried for their run ids
	runIDs  map[string]string
}

// Status describes how publishing is going. It is a value.
type Status struct {
	Published uint64    `json:"published"`      // how often it succeeded
	Failed    uint64    `json:"failed"`         // how often it failed
	Last      time.Time `json:"last"`           // when it last succeeded; zero: never
	Err       error     `json:"-"`              // why it currently fails; nil: it does not
	Gaps      []string  `json:"gaps,omitempty"` // what the server does not allow us besides
}

// Publish starts to publish the Monitor's numbers, at once and then every period, on its own
// goroutine, until Close. It never delays the application: if Redis is unreachable, slow or full,
// or refuses the commands, that is counted (see [Publisher.Status]), logged once until it works
// again, and tried again a period later.
//
// rdb may be the client that the Monitor watches; but while its pool is exhausted nothing is
// published, and after [WithLostAfter] the instance counts as lost. A separate client with one
// connection avoids that; it needs [WithClientNames] if there is a [Spare]. Several clients of one
// process are several instances. Errors are about the arguments: Redis is not contacted. Options:
// [WithName], [WithService], [WithHost], [WithInterval], [WithLostAfter], [WithRetention],
// [WithTimeout], [WithClientNames], [WithLogger].
func Publish(m *monitor.Monitor, rdb redis.UniversalClient, opts ...Option) (*Publisher, error) {
	if m == nil {
		return nil, errors.New("lifeguard/monitor/fleet: Publish: the Monitor is nil")
	}
	if err := checkClient(ofPublish, rdb); err != nil {
		return nil, err
	}
	c, err := configure(ofPublish, opts)
	if err != nil {
		return nil, err
	}
	p := &Publisher{m: m, rdb: rdb, c: c, id: strings.ToLower(rand.Text()), now: make(chan chan error), done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	go p.run()
	return p, nil
}

// ID returns the ID of this instance in [Fleet].Instances.
func (p *Publisher) ID() string { return p.id }

// Status returns how publishing is going.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Gaps = slices.Clone(s.Gaps)
	return s
}

// Now publishes once, in addition to the periods, and returns whether that succeeded. After Close
// it returns an error.
func (p *Publisher) Now(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case p.now <- reply:
	case <-p.ctx.Done():
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errClosed = errors.New("lifeguard/monitor/fleet: the Publisher is closed")

// Close stops publishing and removes the instance from the fleet. It waits at most [WithTimeout]
// for that. An error means that the removal may have failed: then the instance is listed as lost
// until its retention (WithRetention) is over. Call it before closing the client. Calls after the
// first do nothing, and return the same error.
func (p *Publisher) Close() error {
	p.close.Do(func() {
		p.cancel()
		t := time.NewTimer(p.c.timeout)
		defer t.Stop()
		select {
		case <-p.done: // p.closed is set
		case <-t.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.closed == nil {
				p.closed = fmt.Errorf("lifeguard/monitor/fleet: leaving fleet %q: no answer within %v", p.c.fleet, p.c.timeout)
			}
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *Publisher) run() {
	defer close(p.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			p.goodbye()
			return
		case reply := <-p.now:
			reply <- p.publish()
		case <-timer.C:
			_ = p.publish()
		}
		timer.Reset(time.Duration((0.9 + 0.2*mathrand.Float64()) * float64(p.c.every)))
	}
}

// publish writes once, and records the result.
func (p *Publisher) publish() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.c.timeout)
	defer cancel()
	err := p.introduce(ctx)
	if err == nil {
		err = p.write(ctx)
	}
	if err != nil && p.ctx.Err() != nil {
		return errClosed // Close interrupted it: not a failure
	}
	err = refusal.Cause(p.rdb, err)
	p.mu.Lock()
	before, failures := p.status.Err, p.status.Failed
	p.status.Err = err
	if err == nil {
		p.status.Published++
		p.status.Last = time.Now().Round(0)
	} else {
		p.status.Failed++
	}
	p.mu.Unlock()
	switch {
	case err != nil && before == nil:
		p.c.log.Warn("lifeguard: cannot publish to the fleet", "fleet", p.c.fleet, "err", err)
	case err == nil && before != nil:
		p.c.log.Info("lifeguard: publishing to the fleet again", "fleet", p.c.fleet, "failures", failures)
	}
	return err
}

// introduce asks for the server's time, which is needed to prune the index, and for the address
// under which the server sees us. What the server refuses is a gap.
func (p *Publisher) introduce(ctx context.Context) error {
	again := introduceEvery
	if !p.direct { // the connection that was compared may have been closed just then
		again = min(again, 10*p.c.every)
	}
	if !p.met.IsZero() && time.Since(p.met) < again {
		return nil
	}
	var clock clockCmds
	var self *redis.Cmd
	key := p.c.entry(p.id)
	cmds, err := p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock.ask(ctx, pipe, key)
		self = pipe.Do(ctx, "CLIENT", "INFO")
		return nil
	})
	if err := unanswered(cmds, err); err != nil {
		return p.c.failed("Publish: the time", "", err)
	}
	if clock.time.Err() != nil && clock.at.Err() == nil && clock.at.Val() < 0 {
		// The time to live of our entry will show the clock, once the entry exists.
		p.written = true
		cmds, err = p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.HSet(ctx, key, "rev", 0)
			pipe.PExpire(ctx, key, p.c.keep)
			clock.ask(ctx, pipe, key)
			return nil
		})
		if err := unanswered(cmds, err); err != nil {
			return p.c.failed("Publish: the time", "", err)
		}
	}
	var gaps []string
	at := time.Now()
	p.met, p.ahead, p.seen, p.direct, p.apart, p.noInfo = at, clock.read(), "", false, false, false
	if p.ahead.IsZero() {
		gaps = append(gaps, fmt.Sprintf("the index is not pruned: TIME: %v; PEXPIRETIME: %v; it has MaxInstances entries at most", clock.time.Err(), clock.at.Err()))
	}
	if line, err := self.Text(); err != nil {
		gaps = append(gaps, fmt.Sprintf("our connections cannot be recognised by their addresses: CLIENT INFO: %v", err))
	} else {
		for field := range strings.FieldsSeq(line) {
			if a, ok := strings.CutPrefix(field, "addr="); ok {
				p.seen = plain(a)
			}
		}
		if all, known := p.m.Connections(); known {
			p.direct = p.seen != "" && slices.ContainsFunc(all, func(c monitor.Connection) bool { return plain(c.Local) == p.seen })
			if !p.direct {
				gaps = append(gaps, "our connections cannot be recognised by their addresses: none has the one that the server sees")
			}
		} else {
			gaps = append(gaps, "our connections cannot be recognised by their addresses: this Monitor's source does not list them")
		}
	}
	p.mu.Lock()
	p.status.Gaps = gaps
	p.mu.Unlock()
	return nil
}

// unanswered returns err unless it is only a reply to one of the commands.
func unanswered(cmds []redis.Cmder, err error) error {
	if err == nil || answered(err) && !refused(err) && ofHandshake(cmds, err) == nil {
		return nil
	}
	return err
}

// plain returns an ip:port in canonical form; "" if it is not one.
func plain(addr string) string {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return ""
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// write writes the numbers to Redis, all of them or nothing.
func (p *Publisher) write(ctx context.Context) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	p.rev++
	i := p.instance()
	p.ask(ctx, i)
	i.rev = p.rev
	fields := p.c.fields(i)
	score, pruned := math.Inf(1), ""
	start := -float64(1 + mathrand.IntN(1e9)) // not a time, see began
	if !p.ahead.IsZero() {
		server := p.serverTime()
		score = float64(server.Add(p.c.keep).UnixMilli())
		pruned = "(" + strconv.FormatInt(server.Add(-indexTTL).UnixMilli(), 10)
		start = -float64(server.UnixMilli())
	}
	p.written = true
	p.longest = max(p.longest, p.c.lostAfter)
	key, index := p.c.entry(p.id), p.c.index()
	var was *redis.StringCmd
	var longest *redis.FloatCmd
	upkeep := p.lost || time.Since(p.kept) >= min(upkeepEvery, p.c.lostAfter/2)
	word := func(pipe redis.Pipeliner) error {
		was = pipe.HGet(ctx, key, "rev")
		pipe.HSet(ctx, key, fields...)
		return nil
	}
	rest := func(pipe redis.Pipeliner) error {
		pipe.PExpire(ctx, key, p.c.keep)
		pipe.ZAdd(ctx, index, redis.Z{Score: score, Member: p.id})
		if more := i.Disconnected - p.counted; i.Disconnected > p.counted {
			pipe.ZAddArgsIncr(ctx, index, redis.ZAddArgs{Members: []redis.Z{{Score: -float64(more), Member: closedMember}}})
		}
		if upkeep {
			pipe.ZAddArgs(ctx, index, redis.ZAddArgs{NX: !p.lost, Members: []redis.Z{{Score: start, Member: beganMember}}})
			pipe.ZAddArgs(ctx, index, redis.ZAddArgs{LT: true, Members: []redis.Z{{Score: -float64(p.longest.Milliseconds()), Member: longestMember}}})
		}
		longest = pipe.ZScore(ctx, index, longestMember)
		if !upkeep {
			return nil
		}
		pipe.PExpire(ctx, index, indexTTL)
		if pruned != "" {
			pipe.ZRemRangeByScore(ctx, index, "0", pruned)
		}
		pipe.ZRemRangeByRank(ctx, index, marks, -MaxInstances-1) // the marks come first
		return nil
	}
	if err := p.atOnce(ctx, word, rest); err != nil {
		p.unsure, p.told = p.rev, i.Disconnected
		return p.c.failed("Publish: an instance", "MULTI, EXEC, HGET, HSET, PEXPIRE, ZADD, ZSCORE, ZREMRANGEBYSCORE and ZREMRANGEBYRANK", err)
	}
	p.counted, p.unsure = max(p.counted, i.Disconnected), 0
	if upkeep {
		p.kept = time.Now()
	}
	p.longest = max(p.longest, longestOf(longest.Val()))
	before, _ := was.Uint64()
	begun := p.lost
	p.lost = !begun && (p.acked > 0 && before < p.acked || longest.Val() == 0) // or the index was, with its marks
	p.acked = p.rev
	if p.lost {
		// Our entry is gone: by FLUSHALL, an eviction or a failover. Entries of others may be
		// gone, too.
		return p.write(ctx)
	}
	return nil
}

// settle finds out whether a publication arrived whose reply was lost: what it has added to the
// fleet's sum must not be added again.
func (p *Publisher) settle(ctx context.Context) error {
	if p.unsure == 0 {
		return nil
	}
	rev, err := p.rdb.HGet(ctx, p.c.entry(p.id), "rev").Uint64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return p.c.failed("Publish: an instance", "HGET", err)
	}
	if rev >= p.unsure {
		p.counted = max(p.counted, p.told)
	}
	p.unsure = 0
	return nil
}

// atOnce executes commands in one transaction. Where MULTI is denied it uses none, and sends first
// before others: an instance that could not write its numbers must not appear in the index.
func (p *Publisher) atOnce(ctx context.Context, first, others func(redis.Pipeliner) error) error {
	if !p.apart {
		cmds, err := p.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			return errors.Join(first(pipe), others(pipe))
		})
		err = failure(cmds, err)
		if err == nil || !redis.IsPermissionError(err) || !strings.Contains(strings.ToLower(err.Error()), "'multi'") {
			return err
		}
		// go-redis may have to close the connection after that: MULTI is not tried again before
		// the next introduce.
		p.apart = true
		p.gap(fmt.Sprintf("it takes two round trips: MULTI: %v", err))
	}
	for _, part := range []func(redis.Pipeliner) error{first, others} {
		cmds, err := p.rdb.Pipelined(ctx, part)
		if err := failure(cmds, err); err != nil {
			return err
		}
	}
	return nil
}

// serverTime returns the server's current clock, extrapolated with our monotonic clock.
func (p *Publisher) serverTime() time.Time { return p.ahead.Add(time.Since(p.met)) }

// failure returns why a transaction failed. A missing key is no failure, and if the transaction was
// not executed, the cause is the error of a command.
func failure(cmds []redis.Cmder, err error) error {
	if !errors.Is(err, redis.Nil) && !redis.IsExecAbortError(err) {
		return err
	}
	for _, cmd := range cmds {
		if e := cmd.Err(); e != nil && !errors.Is(e, redis.Nil) && !redis.IsExecAbortError(e) {
			return e
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// instance returns this instance as it is now.
func (p *Publisher) instance() *Instance {
	s := p.m.Stats()
	i := &Instance{
		ID: p.id, Service: p.c.service, Host: p.c.host, PID: os.Getpid(), Started: started, Every: p.c.every, LostAfter: p.c.lostAfter,
		Numbers: numbersOf(&s.Rest), rest: numbersOf(&s.Rest), Gaps: s.Gaps, ClientNames: p.c.clientNames,
		Unknown: !s.Known("open"),
	}
	for k := range s.Nodes {
		n := &s.Nodes[k]
		one := Node{Name: n.Name, Numbers: numbersOf(&n.Numbers), MaxClients: n.MaxClients}
		i.Numbers.add(one.Numbers)
		i.Nodes = append(i.Nodes, one)
	}
	if all, _ := p.m.Connections(); p.direct && len(all) <= maxAddrs {
		for _, c := range all {
			if a := plain(c.Local); a != "" {
				i.Addrs = append(i.Addrs, a)
			}
		}
		if len(i.Addrs) < len(all) { // one has no address that the server knows
			i.Addrs = nil
		}
	}
	return i
}

// goodbye removes the instance from the fleet.
func (p *Publisher) goodbye() {
	if !p.written {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.c.timeout)
	defer cancel()
	until := math.Inf(1)
	if !p.ahead.IsZero() {
		until = float64(p.serverTime().Add(p.c.keep - indexTTL).UnixMilli()) // it is pruned when its retention is over
	}
	more := uint64(0)
	if n := p.instance().Disconnected; n > p.counted && p.unsure == 0 {
		more = n - p.counted
	}
	err := p.atOnce(ctx, func(pipe redis.Pipeliner) error {
		if p.acked > 0 {
			pipe.ZAdd(ctx, p.c.index(), redis.Z{Score: until, Member: goodbyePrefix + p.id})
			if more > 0 {
				pipe.ZAddArgsIncr(ctx, p.c.index(), redis.ZAddArgs{Members: []redis.Z{{Score: -float64(more), Member: closedMember}}})
			}
			pipe.PExpire(ctx, p.c.index(), indexTTL)
		}
		return nil
	}, func(pipe redis.Pipeliner) error {
		pipe.Del(ctx, p.c.entry(p.id))
		pipe.ZRem(ctx, p.c.index(), p.id)
		return nil
	})
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed == nil {
			p.closed = p.c.failed("Close", "MULTI, EXEC, DEL, ZREM, ZADD and PEXPIRE", err)
		}
	}
}

func answered(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// refused reports whether the server did not accept the connection at all.
func refused(err error) bool { return redis.IsAuthError(err) || redis.IsMaxClientsError(err) }
