package soak

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// history is what callers did to objects that they share, and when: registers,
// counters, sets and queues. At the end, each object's history must be one that a
// single server could have produced, one call after the other.
type history struct {
	began time.Time
	mu    sync.Mutex
	of    map[string][]porcupine.Operation // by key
}

func newHistory() *history {
	return &history{began: time.Now(), of: map[string][]porcupine.Operation{}}
}

// call is what was asked for.
type call struct {
	object string // register, counter, set or queue
	what   string
	value  string
}

// reply is what came back. An unknown outcome may have taken effect at any time
// since, or never.
type reply struct {
	value   string
	unknown bool
}

// objects are new ones every second, so that no history gets too long to check.
func (h *history) key(tag, object string, n int) string {
	return fmt.Sprintf("%sh:%s:%d:%d", tag, object, int(time.Since(h.began)/time.Second), n)
}

// record calls do and notes it.
func (h *history) record(key string, client int, c call, do func() (string, error)) error {
	from := time.Since(h.began)
	value, err := do()
	if errors.Is(err, redis.Nil) {
		value, err = "", nil
	}
	op := porcupine.Operation{ClientId: client, Input: c, Call: int64(from), Output: reply{value: value}, Return: int64(time.Since(h.began))}
	switch toldBy(err) {
	case unknown:
		op.Output, op.Return = reply{unknown: true}, math.MaxInt64
	case refused:
		return err // it did not happen
	}
	if op.Output.(reply).unknown && readOnly(c) {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of[key] = append(h.of[key], op)
	return err
}

func readOnly(c call) bool { return c.what == "get" || c.what == "members" }

// outcomes are the states that an object may be in after a call, none if the reply
// cannot be true.
func outcomes(state any, input, output any) []any {
	s, c, r := state.(string), input.(call), output.(reply)
	after, said := apply(s, c)
	if !r.unknown {
		if said != r.value {
			return nil
		}
		return []any{after}
	}
	if after == s {
		return []any{s}
	}
	return []any{s, after}
}

// apply is what a single server does. Its state is text: a value, a number,
// sorted members or the elements of a queue.
func apply(s string, c call) (after, said string) {
	items := strings.Fields(s)
	number := func(n int) string { return fmt.Sprint(n) }
	switch c.object + " " + c.what {
	case "register get", "counter get", "set members":
		return s, s
	case "register set":
		return c.value, "OK"
	case "register getset":
		return c.value, s
	case "counter incr":
		n := 0
		_, _ = fmt.Sscan(s, &n)
		return number(n + 1), number(n + 1)
	case "set add", "set remove":
		at, there := slices.BinarySearch(items, c.value)
		if there == (c.what == "add") {
			return s, "0"
		}
		if c.what == "add" {
			items = slices.Insert(items, at, c.value)
		} else {
			items = slices.Delete(items, at, at+1)
		}
		return strings.Join(items, " "), "1"
	case "queue push":
		return strings.TrimSpace(s + " " + c.value), number(len(items) + 1)
	case "queue pop":
		if len(items) == 0 {
			return s, ""
		}
		return strings.Join(items[1:], " "), items[0]
	}
	panic(fmt.Sprint("no such call: ", c))
}

var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{""} },
	Step: outcomes,
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%v -> %+v", input, output)
	},
}).ToModel()

// check says how many histories were checked, and reports those that are impossible.
func (h *history) check(t testing.TB) string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var bad faulty
	calls, open, undecided := 0, 0, 0
	for key, ops := range h.of {
		calls += len(ops)
		for _, op := range ops {
			if op.Output.(reply).unknown {
				open++
			}
		}
		switch porcupine.CheckOperationsTimeout(model, ops, 10*time.Second) {
		case porcupine.Illegal:
			text := ""
			for _, op := range ops {
				text += fmt.Sprintf("\n  %12v to %12v  client %d: %s", time.Duration(op.Call), time.Duration(op.Return), op.ClientId, model.DescribeOperation(op.Input, op.Output))
			}
			bad.add("%s: no single server could have answered like this:%s", key, text)
		case porcupine.Unknown:
			undecided++
		}
	}
	bad.report(t)
	return fmt.Sprintf("%d calls to %d shared objects, %d of unknown outcome; %d histories took too long to check", calls, len(h.of), open, undecided)
}

// shared is what a client and a lease have in common.
type shared interface {
	Get(ctx context.Context, key string) *redis.StringCmd
	Set(ctx context.Context, key string, value any, expiration time.Duration) *redis.StatusCmd
	GetSet(ctx context.Context, key string, value any) *redis.StringCmd
	Incr(ctx context.Context, key string) *redis.IntCmd
	SMembers(ctx context.Context, key string) *redis.StringSliceCmd
	SAdd(ctx context.Context, key string, members ...any) *redis.IntCmd
	SRem(ctx context.Context, key string, members ...any) *redis.IntCmd
	LPop(ctx context.Context, key string) *redis.StringCmd
	RPush(ctx context.Context, key string, values ...any) *redis.IntCmd
}

// share makes a call to an object that others use, too. It is never repeated: a
// repetition is allowed to be seen by others.
func (w *worker) share(ctx context.Context) {
	ctx = retry.Never(ctx)
	object := []string{"register", "counter", "set", "queue"}[w.rnd.IntN(4)]
	key := w.history.key(w.tag(), object, w.rnd.IntN(2))
	c := call{object: object, value: fmt.Sprint(w.name, ":", w.seq)}
	n := w.rnd.IntN(3)
	var rdb shared = w.rdb
	if w.rnd.IntN(4) == 0 {
		conn, err := w.leases.acquire(ctx, key)
		if w.look("Acquire", err) != nil {
			return
		}
		defer conn.Release()
		rdb = conn
	}
	number := func(cmd *redis.IntCmd) (string, error) { return fmt.Sprint(cmd.Val()), uncertain(cmd.Err()) }
	text := func(v string, err error) (string, error) { return v, uncertain(err) }
	var do func() (string, error)
	switch object {
	case "register":
		c.what = []string{"get", "set", "getset"}[n]
		do = func() (string, error) {
			switch c.what {
			case "get":
				return text(rdb.Get(ctx, key).Result())
			case "set":
				return text(rdb.Set(ctx, key, c.value, 0).Result())
			}
			return text(rdb.GetSet(ctx, key, c.value).Result())
		}
	case "counter":
		c.what = []string{"get", "incr", "incr"}[n]
		do = func() (string, error) {
			if c.what == "get" {
				return text(rdb.Get(ctx, key).Result())
			}
			return number(rdb.Incr(ctx, key))
		}
	case "set":
		c.what, c.value = []string{"members", "add", "remove"}[n], fmt.Sprint(w.rnd.IntN(3))
		do = func() (string, error) {
			switch c.what {
			case "members":
				got, err := rdb.SMembers(ctx, key).Result()
				slices.Sort(got)
				return strings.Join(got, " "), uncertain(err)
			case "add":
				return number(rdb.SAdd(ctx, key, c.value))
			}
			return number(rdb.SRem(ctx, key, c.value))
		}
	default:
		c.what = []string{"push", "push", "pop"}[n]
		do = func() (string, error) {
			if c.what == "pop" {
				return text(rdb.LPop(ctx, key).Result())
			}
			return number(rdb.RPush(ctx, key, c.value))
		}
	}
	if w.caching && readOnly(c) {
		return // the client-side cache may answer with what was
	}
	w.tell(object+" "+c.what, w.history.record(key, w.seat, c, do))
}
