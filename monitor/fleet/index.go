package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// The index is a sorted set. Its members are the ids of the instances, each with the time when its
// hash expires, by the server's clock in milliseconds, and the following marks:
const (
	// beganMember records when the index was created. It is written only if it does not exist, so
	// an index that was lost and created again has a different one. Scores of marks are negative:
	// pruning leaves them alone.
	beganMember = "@began"
	// longestMember has the longest LostAfter of any instance that was ever in the fleet. A
	// Publisher remembers it, and writes it again if the index was lost.
	longestMember = "@longest"
	// closedMember has how many connections all instances that were ever in the fleet have closed,
	// as a negative number.
	closedMember = "@closed"
	// marks is the number of these marks.
	marks = 3
	// departedPrefix precedes the id of an instance that left the fleet, so that its missing entry
	// is not taken for a lost one. It is pruned when its retention is over.
	departedPrefix = "@departed:"
)

// MaxInstances is how many entries the index of a fleet has at most: those that expire first are
// dropped. When the index is full, it is unknown which instances are missing, so [Read] has a gap,
// and a [Members] spares everybody.
const MaxInstances = 10000

// began identifies the index, by its mark: a different value means that the index was lost
// meanwhile. Where the server's time is unknown it is a small number without meaning.
type began float64

const leastTime = began(1e11) // in 1973

// index is the content of the sorted set.
type index struct {
	ids      []string
	over     []time.Time // when their hashes expire
	departed map[string]bool
	began    began         // 0: there is no mark
	longest  time.Duration // 0: there is no mark
	closed   uint64
	now      time.Time // the server's clock; zero: not known
}

func (x *index) age() (time.Duration, bool) {
	if x.now.IsZero() || x.began < leastTime {
		return 0, false
	}
	return x.now.Sub(time.UnixMilli(int64(x.began))), true
}

// readIndex reads the index, in one round trip.
func (c *config) readIndex(ctx context.Context, rdb redis.UniversalClient) (*index, error) {
	var all *redis.ZSliceCmd
	var clock clockCmds
	cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		all = p.ZRangeWithScores(ctx, c.index(), 0, -1)
		clock.ask(ctx, p, c.index())
		return nil
	})
	if err := ofHandshake(cmds, err); err != nil {
		return nil, err
	}
	if err := all.Err(); err != nil {
		return nil, err
	}
	x := &index{departed: map[string]bool{}}
	for _, z := range all.Val() {
		member, _ := z.Member.(string)
		switch {
		case member == beganMember:
			x.began = began(-z.Score)
		case member == longestMember:
			x.longest = longestOf(z.Score)
		case member == closedMember:
			x.closed = uint64(max(0, min(-z.Score, maxCount)))
		case strings.HasPrefix(member, departedPrefix):
			x.departed[strings.TrimPrefix(member, departedPrefix)] = true
		default:
			x.ids = append(x.ids, member)
			x.over = append(x.over, time.UnixMilli(int64(max(0, min(z.Score, 1e15)))))
		}
	}
	x.now = clock.read()
	return x, nil
}

// longestOf decodes the score of longestMember.
func longestOf(score float64) time.Duration {
	return time.Duration(max(0, min(-score, float64(MaxRetention.Milliseconds())))) * time.Millisecond
}

// clockCmds read the clock of the server that has a key: through the key's time to live
// (PEXPIRETIME, since Redis 7.0), else with TIME, which on a cluster may be that of another node.
type clockCmds struct {
	at, left *redis.DurationCmd
	time     *redis.TimeCmd
}

func (q *clockCmds) ask(ctx context.Context, p redis.Pipeliner, key string) {
	q.at, q.left, q.time = p.PExpireTime(ctx, key), p.PTTL(ctx, key), p.Time(ctx)
}

// read returns zero if the server does not report it.
func (q *clockCmds) read() time.Time {
	at, left := q.at.Val(), q.left.Val()
	if q.at.Err() == nil && q.left.Err() == nil && at > 0 && left > 0 {
		return time.UnixMilli((at - left).Milliseconds())
	}
	return q.time.Val()
}

// ofHandshake returns err if it comes from a failed handshake: only the pipeline has that error,
// not its commands.
func ofHandshake(cmds []redis.Cmder, err error) error {
	if err == nil || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != nil }) {
		return nil
	}
	return err
}

// mayBeSilent returns for how long a living instance may go without publishing, over all known
// instances. If nothing was lost for that long, every living instance has an entry.
func (f *Fleet) mayBeSilent() time.Duration {
	d := f.index.longest
	for i := range f.Instances {
		d = max(d, f.Instances[i].LostAfter)
	}
	return d
}

// doubts returns why instances may be missing, according to what was read.
func (f *Fleet) doubts() (all []string) {
	x := f.index
	switch {
	case x.began == 0 && len(x.ids) == 0:
		return []string{"incomplete: the fleet is empty: nobody publishes, or what was published was lost (FLUSHALL, eviction, a restart or failover without data)"}
	case x.began == 0 || x.longest == 0:
		all = append(all, "incomplete: the index does not say when it was begun")
	}
	if len(x.ids)+len(x.departed) >= MaxInstances {
		all = append(all, fmt.Sprintf("incomplete: the index is full: %d instances", MaxInstances))
	}
	for i, id := range f.missing {
		if i == 3 {
			all = append(all, fmt.Sprintf("incomplete: the same of %s", errtext.Count(len(f.missing)-i, "more instance")))
			break
		}
		all = append(all, fmt.Sprintf("incomplete: instance %.40q is in the index, but its numbers are gone (evicted?)", id))
	}
	return all
}

// young returns a reason if the index is so new that instances which published before it was
// created may not have published again yet.
func (f *Fleet) young() string {
	if f.index.began == 0 {
		return ""
	}
	age, known := f.index.age()
	switch {
	case !known:
		return "incomplete: the server does not report its time (needs PEXPIRETIME or TIME), so nobody knows how old the index is"
	case age < f.mayBeSilent():
		return "incomplete: the index is new, and instances may not have published since (after FLUSHALL, an eviction or a restart without data they come back one by one)"
	}
	return ""
}
