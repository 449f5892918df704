//go:build unix

package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// client is the managed client of a scenario, of whatever kind.
type client struct {
	redis.UniversalClient
	acquire  func(ctx context.Context, key string) (*managed.Conn, error)
	conns    func() []hooks.ConnInfo
	leases   func() []managed.LeaseInfo
	adaptive redis.Cmdable // these two are nil for a ring
	batched  redis.Cmdable
	inside   *redis.Client // that of a client of one node, nil for others
}

// quiet: while it finds out that a server sends no maintenance notifications,
// go-redis holds a mutex. FailoverOptions and RingOptions cannot
// say so: there it is RESP2.
var quiet = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

// newClient makes the servers of a scenario and the client.
func (r *run) newClient(t testing.TB) *client {
	var first string
	addrs := map[string]string{}
	o := r.Options
	protocol := 2
	if o.RESP3 {
		protocol = 3
	}
	opts := r.clientOptions()
	c := &client{}
	adaptives := func(adaptive redis.UniversalClient, batched *redis.AutoPipeliner, err error) {
		if err != nil {
			t.Fatal(err)
		}
		c.adaptive, c.batched = adaptive, batched
	}
	credentials := r.credentials()
	switch r.Servers {
	case "cluster":
		m := managed.NewClusterClient(&redis.ClusterOptions{Addrs: r.net.newCluster(), Dialer: r.net.Dial, Protocol: protocol,
			DisableIdentity: true, MaintNotificationsConfig: quiet, PoolSize: o.Pool, MinIdleConns: o.MinIdle, ReadTimeout: o.ReadTimeout, WriteTimeout: o.ReadTimeout,
			PoolTimeout: o.PoolTimeout, DialTimeout: time.Second, ContextTimeoutEnabled: o.CtxTimeout, CredentialsProviderContext: credentials,
			ReadBufferSize: 4096, WriteBufferSize: 4096, PipelineReadBufferSize: 8192, PipelineWriteBufferSize: 8192}, opts...)
		c.UniversalClient, c.acquire, c.conns, c.leases = m, m.Acquire, m.Conns, m.Leases
		batched, err := m.Batched()
		adaptives(m.Adaptive(), batched, err)
	case "sentinel":
		m := managed.NewFailoverClient(&redis.FailoverOptions{MasterName: masterName, SentinelAddrs: r.net.newSentinels(), Dialer: r.net.Dial,
			Protocol: 2, DisableIdentity: true, PoolSize: o.Pool, MinIdleConns: o.MinIdle, ReadTimeout: o.ReadTimeout, WriteTimeout: o.ReadTimeout,
			PoolTimeout: o.PoolTimeout, DialTimeout: time.Second, ContextTimeoutEnabled: o.CtxTimeout,
			ReadBufferSize: 4096, WriteBufferSize: 4096, PipelineReadBufferSize: 8192, PipelineWriteBufferSize: 8192}, opts...)
		c.ofOne(m)
		batched, err := m.Batched()
		adaptives(m.Adaptive(), batched, err)
	case "ring":
		for i := range 3 {
			s := r.net.addServer(fmt.Sprintf("10.0.3.%d:6379", i+1), i, false)
			addrs[fmt.Sprint("shard", i)] = s.addr
		}
		m := managed.NewRing(&redis.RingOptions{Addrs: addrs, Dialer: r.net.Dial, Protocol: 2,
			DisableIdentity: true, PoolSize: o.Pool, MinIdleConns: o.MinIdle, ReadTimeout: o.ReadTimeout, WriteTimeout: o.ReadTimeout,
			PoolTimeout: o.PoolTimeout, DialTimeout: time.Second, ContextTimeoutEnabled: o.CtxTimeout,
			ReadBufferSize: 4096, WriteBufferSize: 4096, PipelineReadBufferSize: 8192, PipelineWriteBufferSize: 8192}, opts...)
		c.UniversalClient, c.acquire, c.conns, c.leases = m, m.Acquire, m.Conns, m.Leases
	default:
		first = r.net.addServer("10.0.0.2:6379", 0, false).addr
		m := managed.NewClient(&redis.Options{Addr: first, Dialer: r.net.Dial, Protocol: protocol,
			DisableIdentity: true, MaintNotificationsConfig: quiet, PoolSize: o.Pool, MinIdleConns: o.MinIdle, ReadTimeout: o.ReadTimeout, WriteTimeout: o.ReadTimeout,
			PoolTimeout: o.PoolTimeout, DialTimeout: time.Second, ContextTimeoutEnabled: o.CtxTimeout, CredentialsProviderContext: credentials,
			ReadBufferSize: 4096, WriteBufferSize: 4096, PipelineReadBufferSize: 8192, PipelineWriteBufferSize: 8192}, opts...)
		c.ofOne(m)
		batched, err := m.Batched()
		adaptives(m.Adaptive(), batched, err)
	}
	if o.Hook { // Adaptive sends nothing in batches then
		c.AddHook(refusingHook{key: hookedKey{}})
		if c.inside != nil {
			c.inside.AddHook(refusingHook{key: insideKey{}})
		}
	}
	return c
}

// errMine is an error of the user's own.
var errMine = errors.New("an error of the user's own")

// credentials is a provider of them, nil for none.
func (r *run) credentials() func(context.Context) (string, string, error) {
	if !r.Options.Credentials {
		return nil
	}
	return func(context.Context) (string, string, error) {
		if r.noCredentials.Load() {
			return "", "", errMine
		}
		return "user", "password", nil
	}
}

// These mark the ctx of a call that a hook ends: one of the managed client, or one that was added to
// the go-redis client inside it.
type (
	hookedKey struct{}
	insideKey struct{}
)

// hookedInside reports whether a hook of the go-redis client inside ends a call that a hook ends.
func (r *run) hookedInside(call Call) bool {
	return call.Hooked && r.client.inside != nil && (call.Kind == "one" || call.Kind == "pipe") && len(call.Cmds)%2 == 1 && call.Cmds[0][0] != "blpop"
}

// refusingHook is a hook of the user's that sends nothing of the calls with that key.
type refusingHook struct{ key any }

func (refusingHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h refusingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ctx.Value(h.key) != nil {
			cmd.SetErr(errMine)
			return errMine
		}
		return next(ctx, cmd)
	}
}
func (h refusingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if ctx.Value(h.key) != nil {
			for _, cmd := range cmds {
				cmd.SetErr(errMine)
			}
			return errMine
		}
		return next(ctx, cmds)
	}
}

func (c *client) ofOne(m *managed.Client) {
	c.UniversalClient, c.conns, c.leases, c.inside = m, m.Conns, m.Leases, m.Client
	c.acquire = func(ctx context.Context, _ string) (*managed.Conn, error) { return m.Acquire(ctx) }
}

func (r *run) clientOptions() []managed.Option {
	p := retry.Default()
	p.Backoff = func(n int) time.Duration { return min(8*ms<<n, 512*ms) / 2 } // without chance
	p.OnRetry = func(a retry.Attempt) {
		r.Trace.add("retry", 0, "%s will be sent again (attempt %d was %v: %v), in %v", a.Command, a.Number, a.Outcome, a.Err, a.Wait)
	}
	opts := []managed.Option{managed.WithRetry(p), managed.WithLogger(slog.New(slog.DiscardHandler)), managed.WithEventHandler(r.heard)}
	o := r.Options
	add := func(o managed.Option, on bool) {
		if on {
			opts = append(opts, o)
		}
	}
	add(managed.WithBlockingPool(o.Blocking), o.Blocking > 0 && r.Servers != "sentinel")
	add(managed.WithMaxAge(o.MaxAge), o.MaxAge > 0)
	add(managed.WithMaxIdle(o.MaxIdle), o.MaxIdle > 0)
	add(managed.WithHeartbeat(o.Heartbeat), o.Heartbeat > 0)
	add(managed.WithValidateAfter(o.ValidateAfter), o.ValidateAfter > 0)
	return opts
}

// heard records the events of the client's connections.
func (r *run) heard(e hooks.Event) {
	<-r.ready
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == hooks.Dialed {
		for _, i := range r.client.conns() {
			var n int
			if _, err := fmt.Sscanf(i.Local, clientHost+":%d", &n); err == nil {
				r.linkOf[i.ID] = r.net.link(n - 10000)
			}
		}
	}
	l := r.linkOf[e.ConnID]
	if l == nil || e.Kind != hooks.Closed {
		return
	}
	r.Trace.add("", l.n, "closed by the client, reason %s, %v after its last use: %v", e.Reason, e.Idle, e.Err)
	r.net.mu.Lock()
	harmed, asked, doubtful := l.harmed, l.asked, l.server.doubtful
	r.net.mu.Unlock()
	if harmed || l.server.wasStuck() {
		return
	}
	kind := string(e.Reason)
	if e.Err != nil {
		kind += ": " + gist(e.Err)
	}
	if r.Servers == "cluster" || r.Servers == "sentinel" {
		switch e.Reason { // go-redis ends those to a node that is not used any more, whatever was planned for them
		case hooks.ReasonAge, hooks.ReasonIdle, hooks.ReasonReadOnly:
			return
		}
	}
	switch e.Reason {
	case hooks.ReasonSuspected, hooks.ReasonHeartbeat, hooks.ReasonAge, hooks.ReasonIdle, hooks.ReasonReadOnly:
		if asked && !(doubtful && strings.Contains(kind, "another connection")) {
			r.fail("killed-healthy", kind, "", l.n, "link %d was whole and its server made progress, and it was ended for %s: %v", l.n, e.Reason, e.Err)
		} else if !asked && !doubtful && (e.Reason == hooks.ReasonSuspected || e.Reason == hooks.ReasonHeartbeat) {
			r.fail("ended-idle", kind, "", l.n, "link %d was whole and its server made progress, and it was ended for %s: %v", l.n, e.Reason, e.Err)
		}
	}
}

// typed sends a command by the method of its name.
func typed(ctx context.Context, c redis.Cmdable, args []any) redis.Cmder {
	s := func(i int) string { return fmt.Sprint(args[i]) }
	switch args[0] {
	case "get":
		return c.Get(ctx, s(1))
	case "set":
		if len(args) > 3 {
			return c.SetNX(ctx, s(1), s(2), 0)
		}
		return c.Set(ctx, s(1), s(2), 0)
	case "incr":
		return c.Incr(ctx, s(1))
	case "del":
		return c.Del(ctx, s(1))
	case "sadd":
		return c.SAdd(ctx, s(1), s(2))
	case "zrem":
		return c.ZRem(ctx, s(1), s(2))
	case "lpush":
		return c.LPush(ctx, s(1), s(2))
	case "blpop":
		return c.BLPop(ctx, popTimeout, s(1))
	}
	panic(fmt.Sprint("no method for ", args[0]))
}

// valueOf is the reply of a command as text.
func valueOf(cmd redis.Cmder) string {
	switch c := cmd.(type) {
	case *redis.Cmd:
		return text(c.Val())
	case *redis.StringCmd:
		return c.Val()
	case *redis.StatusCmd:
		return c.Val()
	case *redis.IntCmd:
		return fmt.Sprint(c.Val())
	case *redis.BoolCmd: // SET NX
		if c.Val() {
			return "OK"
		}
		return text(nil)
	case *redis.StringSliceCmd:
		return fmt.Sprint(c.Val())
	}
	panic(fmt.Sprintf("no value of %T", cmd))
}
