package managed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// tracing is a hook as those of libraries are: it keeps a line for each call.
type tracing struct {
	mu    sync.Mutex
	lines []string
	errs  []error
	deny  error
}

func (h *tracing) note(line string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines, h.errs = append(h.lines, line), append(h.errs, err)
}

func (h *tracing) take() (lines []string, errs []error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines, errs = h.lines, h.errs
	h.lines, h.errs = nil, nil
	return lines, errs
}

// calls are the lines that are not of handshakes and dials.
func (h *tracing) calls() (lines []string, errs []error) {
	all, of := h.take()
	for i, line := range all {
		switch first, _, _ := strings.Cut(line, " "); first {
		case "dial", "hello", "client":
		default:
			lines, errs = append(lines, line), append(errs, of[i])
		}
	}
	return lines, errs
}

type insideKey struct{}

func (h *tracing) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		h.note("dial "+network+" "+addr, err)
		return conn, err
	}
}

func (h *tracing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.deny != nil {
			return h.deny
		}
		err := next(context.WithValue(ctx, insideKey{}, h), cmd)
		h.note(text(cmd), err)
		return err
	}
}

func (h *tracing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.deny != nil {
			return h.deny
		}
		err := next(context.WithValue(ctx, insideKey{}, h), cmds)
		texts := make([]string, len(cmds))
		for i, cmd := range cmds {
			texts[i] = text(cmd)
			if (cmd.Err() == nil) != (err == nil) && err != nil && cmd.Name() != "multi" {
				texts[i] += " without its error"
			}
		}
		h.note(strings.Join(texts, "; "), err)
		return err
	}
}

func text(cmd redis.Cmder) string { return strings.TrimSuffix(fmt.Sprintln(cmd.Args()...), "\n") }

// instruments are the two ways to put a hook around the calls of a client.
var instruments = map[string]func(*managed.Client, redis.Hook) error{
	"AddHook": func(c *managed.Client, h redis.Hook) error { c.AddHook(h); return nil },
	"Instrument": func(c *managed.Client, h redis.Hook) error {
		return c.Instrument(func(target *redis.Client) error { target.AddHook(h); return nil })
	},
}

// hookedWays are the ways to send one INCR that a bare client has, too.
var hookedWays = map[string]func(context.Context, redis.UniversalClient, *redis.Client) error{
	"command": func(ctx context.Context, c redis.UniversalClient, _ *redis.Client) error {
		return c.Incr(ctx, "n").Err()
	},
	"pipeline": func(ctx context.Context, c redis.UniversalClient, _ *redis.Client) error {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		return err
	},
	"transaction": func(ctx context.Context, c redis.UniversalClient, _ *redis.Client) error {
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		return err
	},
	"watch": func(ctx context.Context, c redis.UniversalClient, _ *redis.Client) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			return err
		}, "k")
	},
	"watch without a transaction": func(ctx context.Context, c redis.UniversalClient, _ *redis.Client) error {
		return c.Watch(ctx, func(tx *redis.Tx) error { return tx.Incr(ctx, "n").Err() }, "k")
	},
	"conn": func(ctx context.Context, _ redis.UniversalClient, rdb *redis.Client) error {
		conn := rdb.Conn()
		defer conn.Close()
		return conn.Incr(ctx, "n").Err()
	},
	"nothing there": func(ctx context.Context, c redis.UniversalClient, _ *redis.Client) error {
		if err := c.Get(ctx, "none").Err(); err != redis.Nil {
			return fmt.Errorf("want redis.Nil: %w", err)
		}
		return c.Do(ctx, "nosuch").Err()
	},
}

func TestUserHooksSeeWhatTheySeeOnABareClientHandshakesAndDialsIncluded(t *testing.T) {
	s := redistest.Start(t)
	for name, way := range hookedWays {
		opt := s.Options()
		opt.DB, opt.ClientName = 1, "seen"
		bare, want := redis.NewClient(opt), &tracing{}
		defer bare.Close()
		bare.AddHook(want)
		wantErr := way(t.Context(), bare, bare)
		lines, wantErrs := want.take()
		for how, instrument := range instruments {
			t.Run(name+" by "+how, func(t *testing.T) {
				c, got := client(t, opt), &tracing{}
				require.NoError(t, instrument(c, got))
				require.Equal(t, wantErr, way(t.Context(), c, c.Client))
				seen, errs := got.take()
				require.Equal(t, lines, seen)
				require.Equal(t, fmt.Sprint(wantErrs), fmt.Sprint(errs))
			})
		}
	}
}

// Each way loses its first reply; a read is repeated, an INCR is not.
func TestAUserHookSeesEachCallOnceWithTheErrorOfTheCaller(t *testing.T) {
	for name, send := range increments {
		if name == "batch" || name == "clone" {
			continue // a clone has hooks of its own, and go-redis's AutoPipeliner calls hooks with a batch, see below
		}
		for how, instrument := range instruments {
			t.Run(name+" by "+how, func(t *testing.T) {
				t.Parallel()
				s := redistest.Start(t)
				p := redistest.NewProxy(t, s.Addr())
				opt := s.Options()
				opt.Addr, opt.Dialer = p.Addr(), nil
				var attempts []retry.Attempt
				policy := retry.Default()
				policy.OnRetry = func(a retry.Attempt) { attempts = append(attempts, a) }
				c, h := client(t, opt, managed.WithRetry(policy)), &tracing{}
				require.NoError(t, instrument(c, h))
				require.NoError(t, c.Ping(t.Context()).Err())
				h.take()
				var cut atomic.Bool // one reply is
				p.OnReply(func(_ int, b []byte) redistest.Action {
					if slices.Contains([]byte(":+*"), b[0]) && cut.CompareAndSwap(false, true) {
						return redistest.CutBefore
					}
					return redistest.Forward
				})
				err := send(t.Context(), c)
				lines, errs := h.calls()
				once := map[string]bool{}
				for _, line := range lines {
					require.False(t, once[line], "seen twice: %v", lines)
					once[line] = true
					require.NotContains(t, line, "without its error")
				}
				require.NotEmpty(t, lines)
				if err == nil {
					for _, e := range errs {
						require.NoError(t, e)
					}
					return
				}
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, err, errs[len(errs)-1], "%v", lines)
				require.Empty(t, attempts)
			})
		}
	}
}

func TestAUserHookSeesARepetitionAsOneCall(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.Dialer = p.Addr(), nil
	repeated := 0
	policy := retry.Default()
	policy.OnRetry = func(retry.Attempt) { repeated++ }
	c := client(t, opt, managed.WithRetry(policy))
	a, b := &tracing{}, &tracing{}
	c.AddHook(a)
	require.NoError(t, c.Instrument(func(target *redis.Client) error { target.AddHook(b); return nil }))
	require.NoError(t, c.Set(t.Context(), "k", "value", 0).Err())
	a.take()
	b.take()
	for what, read := range map[string]func() error{
		"get k": func() error { return c.Get(t.Context(), "k").Err() },
		"get k; get k": func() error {
			_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "k"); p.Get(t.Context(), "k"); return nil })
			return err
		},
		"watch k": func() error { return c.Watch(t.Context(), func(*redis.Tx) error { return nil }, "k") },
	} {
		// The replies to the call are cut, not those of handshakes.
		var cuts atomic.Int64
		var watching sync.Map
		p.OnRequest(func(n int, b []byte) redistest.Action {
			if strings.Contains(string(b), "watch") {
				watching.Store(n, true)
			}
			return redistest.Forward
		})
		p.OnReply(func(n int, b []byte) redistest.Action {
			_, watch := watching.Load(n)
			if (strings.HasPrefix(string(b), "$5") || watch && strings.HasPrefix(string(b), "+OK")) && cuts.Add(1) <= 2 {
				return redistest.CutBefore
			}
			return redistest.Forward
		})
		repeated = 0
		require.NoError(t, read(), what)
		require.Equal(t, 2, repeated, what)
		for _, h := range []*tracing{a, b} {
			lines, errs := h.take()
			require.Equal(t, what, lines[slices.Index(lines, what)])
			require.Len(t, slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l != what }), 1, "%v", lines)
			require.LessOrEqual(t, len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.HasPrefix(l, "hello") })), 1,
				"handshakes of repetitions: %v", lines)
			require.NoError(t, errs[slices.Index(lines, what)])
		}
	}
}

func TestAUserHookSeesTheErrorsOfAnOutageAsTheCallersDo(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	policy := retry.Default()
	policy.Breaker = retry.BreakerPolicy{After: 50 * time.Millisecond}
	for how, instrument := range instruments {
		c, h := client(t, opt, managed.WithRetry(policy)), &tracing{}
		require.NoError(t, instrument(c, h))
		require.NoError(t, c.Ping(t.Context()).Err())
		h.take()
		s.Kill()
		var want []error
		for range 20 {
			want = append(want, c.Get(t.Context(), "k").Err())
		}
		_, got := h.calls()
		require.Equal(t, want, got, how)
		s.Restart()
	}
}

func TestACloneHasNoneOfTheHooksOfItsClientAsOnABareOne(t *testing.T) {
	type hooked interface {
		AddHook(redis.Hook)
		Ping(context.Context) *redis.StatusCmd
	}
	bare, c := redis.NewClient(redistest.Options(t)), client(t, redistest.Options(t))
	defer bare.Close()
	for name, pair := range map[string]func() (hooked, hooked){
		"bare":    func() (hooked, hooked) { return bare, bare.WithTimeout(time.Second) },
		"managed": func() (hooked, hooked) { return c, c.WithTimeout(time.Second) },
	} {
		before, after, own := &tracing{}, &tracing{}, &tracing{}
		client, _ := pair()
		client.AddHook(before)
		_, clone := pair()
		client.AddHook(after)
		clone.AddHook(own)
		require.NoError(t, clone.Ping(t.Context()).Err())
		lines, _ := own.calls()
		require.Equal(t, []string{"ping"}, lines, name)
		require.NoError(t, client.Ping(t.Context()).Err())
		for _, h := range []*tracing{before, after} {
			lines, _ := h.calls()
			require.Equal(t, []string{"ping"}, lines, "%s: the client's, and not the clone's", name)
		}
		lines, _ = own.calls()
		require.Empty(t, lines, "%s: the client has not got the hooks of its clone", name)
	}
}

func TestAUserHookSeesTheCommandsOfALeaseWithTheErrorOfTheCaller(t *testing.T) {
	for how, instrument := range instruments {
		c, h := client(t, redistest.Options(t)), &tracing{}
		require.NoError(t, instrument(c, h))
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		h.take()
		require.NoError(t, conn.Ping(t.Context()).Err())
		_, err = conn.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "none"); return nil })
		require.Equal(t, redis.Nil, err)
		conn.Release()
		want := []error{nil, redis.Nil}
		_, err = conn.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
		require.ErrorIs(t, err, managed.ErrReleased)
		want = append(want, err, conn.Ping(t.Context()).Err())
		lines, errs := h.take()
		require.Equal(t, []string{"ping", "get none", "ping", "ping"}, lines, how)
		require.Equal(t, want, errs, how)
	}
}

func TestAUserHookCanRefuseACall(t *testing.T) {
	for how, instrument := range instruments {
		c, h := client(t, redistest.Options(t)), &tracing{deny: errors.New("not today")}
		require.NoError(t, instrument(c, h))
		require.Equal(t, h.deny, c.Ping(t.Context()).Err(), how)
		require.Equal(t, h.deny, c.Watch(t.Context(), func(*redis.Tx) error { t.Error("entered"); return nil }, "k"), how)
		_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
		require.Equal(t, h.deny, err, how)
		require.Empty(t, c.Conns(), "nothing was dialed")
	}
}

func TestOfAnAdaptiveClientUserHooksSeeEachCallOnce(t *testing.T) {
	const callers, each = 32, 50
	for how, instrument := range instruments {
		c, h := client(t, redistest.Options(t)), &tracing{}
		require.NoError(t, instrument(c, h))
		a := c.Adaptive()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					_ = a.Incr(t.Context(), "n")
				}
			})
		}
		wg.Wait()
		lines, _ := h.calls()
		require.Len(t, lines, callers*each, how)
		require.Equal(t, "incr n", lines[0], how)
	}
}

func TestOfABatchUserHooksSeeWhatTheySeeOnABareClient(t *testing.T) {
	c, h := client(t, redistest.Options(t)), &tracing{}
	c.AddHook(h)
	ap, err := c.Batched()
	require.NoError(t, err)
	require.NoError(t, ap.Incr(t.Context(), "n").Err())
	require.NoError(t, ap.Incr(t.Context(), "n").Err())
	lines, _ := h.calls()
	require.Equal(t, []string{"incr n", "incr n"}, lines)
}

func TestVisitsShowNothingToHooksOfTheClientInside(t *testing.T) {
	c, h := client(t, redistest.Options(t), managed.WithValidateAfter(0)), &printing{}
	c.Client.AddHook(h)
	for range 3 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		conn.Release()
	}
	require.NotEmpty(t, h.seen)
	for _, shown := range h.seen {
		require.Regexp(t, `^ping[ :\[\]"PONGK]*$`, shown)
	}
}

// printing prints pings in every way that libraries have.
type printing struct{ seen []string }

func (p *printing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (p *printing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "ping" {
			args := cmd.Args()
			p.seen = append(p.seen, cmd.String(), cmd.FullName(), text(cmd))
			for _, verb := range []string{"%v", "%s", "%q", "%x", "%d", "%+v", "%#v"} {
				p.seen = append(p.seen, "ping"+fmt.Sprintf(verb, args[len(args)-1]))
			}
			if b, err := json.Marshal(args[1:]); err == nil {
				p.seen = append(p.seen, "ping"+string(b))
			}
		}
		return err
	}
}
func (p *printing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
