//go:build unix

package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Scenario is everything that a seed decides. It is plain data: it can be printed,
// and made smaller.
type Scenario struct {
	Seed    uint64
	Length  time.Duration
	Servers string // single, cluster, sentinel or ring
	Options Options
	Latency time.Duration
	Callers []Caller
	Faults  []Fault
}

// Options are those of the client.
type Options struct {
	Pool, MinIdle, Blocking                   int
	ReadTimeout, PoolTimeout                  time.Duration
	CtxTimeout                                bool // ContextTimeoutEnabled
	Credentials                               bool // a provider of them, which fails during the fault "credentials"
	Hook                                      bool // of the user's, which ends some calls with an error of its own
	RESP3                                     bool
	MaxAge, MaxIdle, Heartbeat, ValidateAfter time.Duration // 0: the default
}

func (o Options) String() string {
	s := fmt.Sprintf("pool of %d, ReadTimeout %v, PoolTimeout %v, ContextTimeoutEnabled %v", o.Pool, o.ReadTimeout, o.PoolTimeout, o.CtxTimeout)
	for name, v := range map[string]any{"MinIdleConns": o.MinIdle, "blocking pool": o.Blocking, "RESP3": o.RESP3, "max age": o.MaxAge,
		"max idle": o.MaxIdle, "heartbeat": o.Heartbeat, "validate after": o.ValidateAfter,
		"credentials": o.Credentials, "a user's hook": o.Hook} {
		if text := fmt.Sprint(v); text != "0" && text != "0s" && text != "false" {
			s += fmt.Sprintf(", %s %v", name, v)
		}
	}
	return s
}

// Caller makes its calls one after the other.
type Caller []Call

// Call is one call of a client: a command, several in one of its ways, or a lease
// with some commands on it.
type Call struct {
	Kind   string // one of callKinds
	ID     string
	Cmds   [][]any // each with a token of its own: "u:{ID}/number"
	Think  time.Duration
	Limit  time.Duration // of its ctx, 0 for none
	Cancel bool          // its ctx has no deadline, and is cancelled then
	Hold   time.Duration // lease: between its commands
	Piped  bool          // lease: its commands are sent in one pipeline
	Hooked bool          // a hook of the user's ends it with an error of its own
}

func (c Call) String() string {
	var names []string
	for _, cmd := range c.Cmds {
		names = append(names, fmt.Sprint(cmd[0]))
	}
	s := fmt.Sprintf("call %s: %s %s", c.ID, c.Kind, strings.Join(names, ","))
	switch {
	case c.Limit > 0 && c.Cancel:
		s += fmt.Sprintf(", cancelled after %v", c.Limit)
	case c.Limit > 0:
		s += fmt.Sprintf(", ctx %v", c.Limit)
	}
	if c.Piped {
		s += ", in a pipeline"
	}
	if c.Hooked {
		s += ", ended by a hook"
	}
	if c.Hold > 0 {
		s += fmt.Sprintf(", holds it %v between commands", c.Hold)
	}
	return s
}

// apart reports whether its commands are sent one by one, as far as the call is concerned.
func (c Call) apart() bool {
	switch c.Kind {
	case "lease":
		return !c.Piped
	case "adaptive", "batched":
		return true
	}
	return false
}

// size is about how many bytes it sends.
func (c Call) size() (n int) {
	for _, cmd := range c.Cmds {
		for _, arg := range cmd {
			if s, ok := arg.(string); ok {
				n += len(s)
			}
		}
	}
	return n
}

const ms = time.Millisecond

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)/int64(ms)+1))*ms
}

// quietEnd is the end of a scenario, in which no fault begins and none goes on.
const quietEnd = 12 * time.Second

func newScenario(seed uint64) Scenario {
	r := rand.New(rand.NewPCG(seed, 1))
	s := Scenario{Seed: seed, Length: 60 * time.Second, Latency: pick(r, 0, 0, ms, 5*ms, 40*ms),
		Servers: pick(r, "single", "single", "single", "cluster", "cluster", "sentinel", "ring")}
	o := Options{Pool: 1 + r.IntN(8), ReadTimeout: pick(r, 100*ms, 300*ms, time.Second, 3*time.Second),
		PoolTimeout: pick(r, 50*ms, time.Second, 4*time.Second), CtxTimeout: r.IntN(4) > 0, RESP3: r.IntN(3) == 0}
	if r.IntN(3) == 0 {
		o.MinIdle = 1 + r.IntN(o.Pool)
	}
	if r.IntN(2) == 0 {
		o.Blocking = 1 + r.IntN(3)
	}
	if r.IntN(3) == 0 {
		o.MaxAge = between(r, time.Second, 20*time.Second)
	}
	if r.IntN(3) == 0 {
		o.MaxIdle = between(r, time.Second, 20*time.Second)
	}
	if r.IntN(3) == 0 {
		o.Heartbeat = between(r, 500*ms, 10*time.Second)
	}
	if r.IntN(3) == 0 {
		o.ValidateAfter = between(r, ms, 5*time.Second)
	}
	o.Credentials, o.Hook = r.IntN(4) == 0, r.IntN(5) == 0
	s.Options = o
	kinds := callKinds
	if s.Servers == "ring" { // it has neither Adaptive nor Batched
		kinds = kinds[:len(kinds)-2]
	}
	if r.IntN(4) == 0 { // nobody else's calls mend what goes wrong for this kind
		kinds = []string{pick(r, kinds[3:]...)}
	}
	for i := range 1 + r.IntN(o.Pool+3) {
		s.Callers = append(s.Callers, newCaller(r, i, s, kinds))
	}
	for range 2 + r.IntN(6) {
		s.Faults = append(s.Faults, newFault(r, s))
	}
	return s
}

var callKinds = []string{"one", "one", "one", "one", "pipe", "tx", "lease", "watch", "adaptive", "batched"}

func newCaller(r *rand.Rand, n int, s Scenario, kinds []string) Caller {
	var c Caller
	pace := between(r, 20*ms, 2*time.Second)
	for at, i := time.Duration(0), 0; at < s.Length && i < 50; i++ {
		call := Call{Kind: pick(r, kinds...), ID: fmt.Sprintf("%d.%d", n, i), Think: between(r, 0, 2*pace)}
		if r.IntN(4) > 0 {
			call.Limit = pick(r, 5*ms, 20*ms, 100*ms, 500*ms, 2*time.Second, 10*time.Second)
			call.Cancel = r.IntN(4) == 0
		}
		cmds := 1 + r.IntN(4)
		switch call.Kind {
		case "one":
			cmds = 1
		case "lease":
			call.Hold = between(r, 0, time.Second)
			call.Piped = r.IntN(4) == 0
		case "adaptive", "batched":
			cmds = 1 + r.IntN(14)
		}
		switch call.Kind {
		case "one", "pipe", "tx":
			call.Hooked = s.Options.Hook && r.IntN(10) == 0
		}
		for k := range cmds {
			call.Cmds = append(call.Cmds, newCommand(r, call, k))
		}
		at += call.Think + 50*ms
		c = append(c, call)
	}
	return c
}

func newCommand(r *rand.Rand, c Call, n int) []any {
	token, key := fmt.Sprintf("u:{%s}/%d", c.ID, n), fmt.Sprintf("k:{%s}", c.ID)
	typed := c.Kind == "adaptive" || c.Kind == "batched"
	switch k := r.IntN(18); {
	case k == 0:
		return []any{"get", key}
	case k == 1:
		return []any{"set", key, token}
	case k == 2:
		return []any{"set", token, "v", "nx"}
	case k == 3:
		return []any{"del", token}
	case k == 4:
		return []any{"sadd", key, token}
	case k == 5:
		return []any{"zrem", key, token}
	case k == 6:
		return []any{"lpush", key, token}
	case typed || k == 7:
		return []any{"incr", token}
	case k == 8:
		return []any{pick(r, "unlink", "persist"), token}
	case k == 9:
		return []any{pick(r, "srem", "hdel", "pfadd"), key, token}
	case k == 10:
		return []any{"lrem", key, 0, token}
	case k == 11:
		return []any{"setbit", token, 7, 1}
	case k == 12:
		return pick(r, []any{"getdel", token}, []any{"getex", token, "exat", 1}, []any{"hgetex", key, "exat", 1, "fields", 1, token})
	case k == 13:
		return []any{"append", token, "abc"}
	case k == 14:
		return []any{"eval", "return redis.call('incr', KEYS[1])", 1, token}
	case k == 15:
		word := pick(r, "TRYAGAIN x", "READONLY x", "LOADING x", "CLUSTERDOWN x", "MASTERDOWN x", "BUSY x", "NOREPLICAS x", "EXECABORT x",
			"ERR max number of clients reached")
		return []any{"eval", "redis.call('incr', KEYS[1]) return redis.error_reply('" + word + "')", 1, token}
	case k == 16 && c.Kind == "one":
		return []any{"blpop", token, 1}
	case r.IntN(4) == 0: // an upload
		return []any{"set", token, strings.Repeat("x", 20<<10+r.IntN(150<<10))}
	}
	return []any{"incr", token}
}
