package fleet

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// introduceEvery is how often a Publisher asks for the server's time and for the address under which
// the server sees it.
const introduceEvery = 10 * time.Minute

// introduce asks for the server's time, which is needed to prune the index, and for the address
// under which the server sees us. What the server refuses is a gap.
func (p *Publisher) introduce(ctx context.Context) error {
	again := introduceEvery
	if !p.direct { // the connection that was compared may have been closed just then
		again = min(again, 10*p.c.every)
	}
	if !p.introduced.IsZero() && time.Since(p.introduced) < again {
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
	p.introduced, p.ahead, p.seen, p.direct, p.apart, p.noInfo = at, clock.read(), "", false, false, false
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

// serverTime returns the server's current clock, extrapolated with our monotonic clock.
func (p *Publisher) serverTime() time.Time { return p.ahead.Add(time.Since(p.introduced)) }
