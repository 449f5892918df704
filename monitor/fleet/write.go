package fleet

import (
	"context"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// indexTTL is longer than every instance's retention. It is also how long after its retention
	// an instance is removed from the index: if the server's clock jumps so far that living
	// instances are pruned, the index expires too, and that is noticed.
	indexTTL = MaxRetention + time.Hour
	// upkeepEvery is how often a Publisher prunes the index and extends its expiry: at every
	// publication if those are rarer.
	upkeepEvery = time.Minute
)

// started is approximately when the process started.
var started = time.Now()

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
	entry := func(pipe redis.Pipeliner) error {
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
	if err := p.atOnce(ctx, entry, rest); err != nil {
		p.unsure, p.reported = p.rev, i.Disconnected
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
		p.counted = max(p.counted, p.reported)
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

// leave removes the instance from the fleet.
func (p *Publisher) leave() {
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
			pipe.ZAdd(ctx, p.c.index(), redis.Z{Score: until, Member: departedPrefix + p.id})
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
