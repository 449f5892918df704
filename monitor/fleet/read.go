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

	"github.com/lifeguard-redis/lifeguard/monitor/internal/refusal"
)

// batch is how many instances are read in one round trip.
const batch = 500

// Read reads all instances of a fleet, and adds them up. It takes two round trips for up to 500
// instances, and one more for each further 500, and changes nothing in Redis. A fleet without
// instances is empty, which is not an error but a gap: entries may have been lost. As long as
// instances may be missing, Gaps contain a line that begins with "incomplete": for example after
// FLUSHALL, until all instances have had time to publish again, and also for a new fleet.
//
// An error means that nothing is known: there was no reply, or not a valid one. An instance that
// cannot be read is left out and named in Gaps, and so is one whose numbers are unknown. Options:
// [WithName]. Safe for concurrent use.
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
	f, err := c.readOnce(ctx, rdb)
	if err != nil {
		return Fleet{}, refusal.Cause(rdb, err)
	}
	return f, nil
}

func (c *config) readOnce(ctx context.Context, rdb redis.UniversalClient) (Fleet, error) {
	f := Fleet{Name: c.fleet, Time: time.Now().Round(0)}
	x, err := c.readIndex(ctx, rdb)
	if err != nil {
		return Fleet{}, c.failed("Read: the index", "ZRANGE, HGETALL and PTTL", err)
	}
	f.index = x
	for from := 0; from < len(x.ids); from += batch {
		part := x.ids[from:min(from+batch, len(x.ids))]
		hashes := make([]*redis.MapStringStringCmd, len(part))
		ttls := make([]*redis.DurationCmd, len(part))
		cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range part {
				hashes[i], ttls[i] = p.HGetAll(ctx, c.entry(id)), p.PTTL(ctx, c.entry(id))
			}
			return nil
		})
		if err := ofHandshake(cmds, err); err != nil {
			return Fleet{}, c.failed("Read", "", err)
		}
		for i, id := range part {
			there, err := f.take(id, hashes[i], ttls[i])
			if err != nil {
				return Fleet{}, c.failed("Read: an instance", "ZRANGE, HGETALL and PTTL", err)
			}
			if !there && (x.now.IsZero() || x.now.Before(x.over[from+i])) {
				f.missing = append(f.missing, id)
			}
		}
	}
	if len(f.missing) > 0 { // these may just have left the fleet
		now, err := c.readIndex(ctx, rdb)
		if err != nil {
			return Fleet{}, c.failed("Read: the index", "ZRANGE, HGETALL and PTTL", err)
		}
		maps.Copy(x.departed, now.departed)
		f.missing = slices.DeleteFunc(f.missing, func(id string) bool { return x.departed[id] })
	}
	f.finish()
	return f, nil
}

// take adds an instance, if its hash exists. It returns an error only if that concerns all
// instances.
func (f *Fleet) take(id string, hash *redis.MapStringStringCmd, left *redis.DurationCmd) (there bool, err error) {
	bad := func(why any) (bool, error) {
		f.unreadable = append(f.unreadable, fmt.Sprintf("instance %.40q cannot be read: %v", id, why))
		return true, nil
	}
	h, err := hash.Result()
	if err == nil {
		_, err = left.Result()
	}
	if err != nil {
		if strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return bad("it is no hash")
		}
		return false, err
	}
	ttl := left.Val()
	switch {
	case len(h) == 0:
		return false, nil
	case ttl == -1: // go-redis gives -1 and -2 as nanoseconds
		return bad("it does not expire, so nobody knows how old it is")
	case ttl == -2:
		ttl = 0 // just now
	}
	i, err := parse(id, h, ttl)
	if err != nil {
		return bad(err)
	}
	i.left = ttl
	f.Instances = append(f.Instances, i)
	return true, nil
}

// finish sorts the instances and adds them up.
func (f *Fleet) finish() {
	slices.SortFunc(f.Instances, func(a, b Instance) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID), strings.Compare(a.ID, b.ID))
	})
	f.incomplete()
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
	}
	// If the total was lost with the keys, the present instances still know their part.
	f.Disconnected = max(f.index.closed, f.Sum.Disconnected+f.LostSum.Disconnected)
	f.Nodes = f.sumNodes()
}

// incomplete puts the gaps about missing instances first.
func (f *Fleet) incomplete() {
	gaps := f.doubts()
	if young := f.young(); young != "" {
		gaps = append(gaps, young)
	}
	if len(gaps) == 0 && len(f.Instances) == 0 && len(f.unreadable) == 0 {
		gaps = append(gaps, "no instances: all have left, or have not published for longer than their retention")
	}
	f.Gaps = append(gaps, f.unreadable...)
}

// failed makes the error of a failed round trip to Redis. It names no key.
func (c *config) failed(what, needs string, err error) error {
	var answer redis.Error
	hint := ""
	if errors.As(err, &answer) {
		switch text := err.Error(); {
		case (redis.IsPermissionError(err) || strings.Contains(text, "NOPERM")) && needs != "":
			hint = " (needs " + needs + ")"
		case strings.HasPrefix(text, "WRONGTYPE"):
			hint = " (something else uses a key of this fleet: give the fleet another Name)"
		}
	}
	return fmt.Errorf("lifeguard/monitor/fleet: %s of fleet %q: %w%s", what, c.fleet, err, hint)
}
