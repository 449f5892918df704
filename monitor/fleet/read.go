package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// batch is how many instances are read in one round trip.
const batch = 500

// Read reads all instances of a fleet, and adds them up. It takes two round trips up
// to 500 instances, and one more for each further 500, and changes nothing in Redis.
// A fleet that nobody belongs to is empty; that is no error.
//
// An error means that nothing is known: no answer, or one that is none. An instance
// that cannot be read is left out and named in Gaps, and so is one whose numbers are
// not known. Options: [Name]. Safe for concurrent use.
func Read(ctx context.Context, rdb redis.UniversalClient, opts ...Option) (Fleet, error) {
	if err := checkClient(ofRead, rdb); err != nil {
		return Fleet{}, err
	}
	c, err := configure(ofRead, opts)
	if err != nil {
		return Fleet{}, err
	}
	return c.read(ctx, rdb)
}

func (c *config) read(ctx context.Context, rdb redis.UniversalClient) (Fleet, error) {
	f := Fleet{Name: c.fleet, Time: time.Now().Round(0)}
	ids, err := rdb.ZRange(ctx, c.index(), 0, -1).Result()
	if err != nil {
		return Fleet{}, c.failed("Read: the index", "ZRANGE, HGETALL and PTTL", err)
	}
	for part := range slices.Chunk(ids, batch) {
		hashes := make([]*redis.MapStringStringCmd, len(part))
		ttls := make([]*redis.DurationCmd, len(part))
		cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range part {
				hashes[i], ttls[i] = p.HGetAll(ctx, c.entry(id)), p.PTTL(ctx, c.entry(id))
			}
			return nil
		})
		// Of a failed handshake only the pipeline knows, and not its commands.
		if err != nil && !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
			return Fleet{}, c.failed("Read", "", err)
		}
		for i, id := range part {
			if err := f.take(id, hashes[i], ttls[i]); err != nil {
				return Fleet{}, c.failed("Read: an instance", "ZRANGE, HGETALL and PTTL", err)
			}
		}
	}
	f.finish()
	return f, nil
}

// take adds an instance. An error is one of all, not of this one.
func (f *Fleet) take(id string, hash *redis.MapStringStringCmd, left *redis.DurationCmd) error {
	bad := func(why any) error {
		f.unreadable++
		f.Gaps = append(f.Gaps, fmt.Sprintf("instance %.40q cannot be read: %v", id, why))
		return nil
	}
	h, err := hash.Result()
	if err == nil {
		_, err = left.Result()
	}
	if err != nil {
		if strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return bad("it is no hash")
		}
		return err
	}
	ttl := left.Val()
	switch {
	case len(h) == 0:
		return nil // its time is over, or it has just said goodbye
	case ttl == -1: // go-redis gives -1 and -2 as nanoseconds
		return bad("it does not expire, so nobody knows how old it is")
	case ttl == -2:
		ttl = 0 // just now
	}
	i, err := parse(id, h, ttl)
	if err != nil {
		return bad(err)
	}
	f.Instances = append(f.Instances, i)
	return nil
}

// finish sorts and adds up.
func (f *Fleet) finish() {
	slices.SortFunc(f.Instances, func(a, b Instance) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID), strings.Compare(a.ID, b.ID))
	})
	nodes := map[string]*Node{}
	for i := range f.Instances {
		in := &f.Instances[i]
		if in.Lost {
			f.Lost++
			f.LostSum.add(in.Numbers)
			continue
		}
		f.Alive++
		f.Sum.add(in.Numbers)
		if in.Unknown {
			f.Gaps = append(f.Gaps, fmt.Sprintf("numbers of %s on %s (pid %d): %s", in.Service, in.Host, in.PID, strings.Join(in.Gaps, "; ")))
		}
		for _, n := range in.Nodes {
			to := nodes[n.Name]
			if to == nil {
				to = &Node{Name: n.Name}
				nodes[n.Name] = to
			}
			to.add(n.Numbers)
			to.MaxClients = max(to.MaxClients, n.MaxClients)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		f.Nodes = append(f.Nodes, *nodes[name])
	}
}

// failed is the error of an exchange with Redis. It names no key.
func (c *config) failed(what, needs string, err error) error {
	var answer redis.Error
	hint := ""
	if errors.As(err, &answer) {
		switch text := err.Error(); {
		case redis.IsPermissionError(err) && needs != "":
			hint = " (needs " + needs + ")"
		case strings.HasPrefix(text, "WRONGTYPE"):
			hint = " (something else uses a key of this fleet: give the fleet another Name)"
		}
	}
	return fmt.Errorf("lifeguard/monitor/fleet: %s of fleet %q: %w%s", what, c.fleet, err, hint)
}
