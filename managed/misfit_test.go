package managed_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

var errFull = errors.New("the caller's writer is full")

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

type sender interface {
	Process(context.Context, redis.Cmder) error
	Pipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
	TxPipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// keepers are the ways to use a connection that go-redis keeps after an error.
var keepers = map[string]func(*managed.Client, context.Context, func(sender)) error{
	"Conn": func(c *managed.Client, ctx context.Context, f func(sender)) error {
		conn := c.Conn()
		defer conn.Close()
		f(conn)
		return nil
	},
	"Watch": func(c *managed.Client, ctx context.Context, f func(sender)) error {
		return c.Watch(ctx, func(tx *redis.Tx) error { f(tx); return nil }, "k")
	},
	"lease": func(c *managed.Client, ctx context.Context, f func(sender)) error {
		conn, err := c.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		f(conn)
		return nil
	},
	"Conn of a clone": func(c *managed.Client, ctx context.Context, f func(sender)) error {
		conn := c.WithTimeout(soon).Conn()
		defer conn.Close()
		f(conn)
		return nil
	},
}

func TestACommandWhoseReplyCannotBeUsedWasSentOnAConnToo(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon))
	ctx := t.Context()
	for way, use := range keepers {
		for name, cmd := range map[string]func() redis.Cmder{
			"type": func() redis.Cmder { return redis.NewMapStringStringCmd(ctx, "incr", "n") },
			"form": func() redis.Cmder { return redis.NewClientInfoCmd(ctx, "incr", "n") },
			// The reply is not read as one of a command that is repeated, so nothing else can tell.
			"writer": func() redis.Cmder { return redis.NewRawWriteToCmd(ctx, fullWriter{}, "incr", "n") },
		} {
			s.Admin().Del(ctx, "n")
			incr := cmd()
			require.NoError(t, use(c, ctx, func(conn sender) {
				_ = conn.Process(ctx, incr)
			}))
			require.Equal(t, "1", s.Admin().Get(ctx, "n").Val(), way)
			if name == "type" { // its text says that a reply was read
				require.Equal(t, retry.Answered, retry.OutcomeOf(incr.Err()), "%s: %v", way, incr.Err())
			} else {
				require.Equal(t, retry.Unknown, retry.OutcomeOf(incr.Err()), "%s, %s: %v", way, name, incr.Err())
				require.ErrorIs(t, incr.Err(), retry.ErrUnknownOutcome)
			}

			s.Admin().Del(ctx, "n")
			misfit := cmd()
			var before, after *redis.IntCmd
			require.NoError(t, use(c, ctx, func(conn sender) {
				_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
					before = p.Incr(ctx, "n")
					_ = p.Process(ctx, misfit)
					after = p.Incr(ctx, "n")
					return nil
				})
			}))
			require.Equal(t, "3", s.Admin().Get(ctx, "n").Val(), way)
			if name == "type" {
				require.NoError(t, before.Err(), "%s: it was answered", way)
				require.Equal(t, int64(1), before.Val())
			} else { // a hook that has sent nothing would leave the same errors
				require.ErrorIs(t, before.Err(), retry.ErrUnknownOutcome, "%s, %s", way, name)
			}
			require.NotEqual(t, retry.NotSent, retry.OutcomeOf(misfit.Err()), "%s, %s: %v", way, name, misfit.Err())
			require.ErrorIs(t, after.Err(), retry.ErrUnknownOutcome, "%s, %s", way, name)
		}
	}
}

var errNotWritten = errors.New("the caller's value cannot be written")

type notWritten struct{}

func (notWritten) MarshalBinary() ([]byte, error) { return nil, errNotWritten }

func TestWhatWasFlushedBeforeAnArgumentThatCannotBeWrittenIsNotCalledUnsent(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon))
	ctx := t.Context()
	for way, use := range withAll() {
		for name, value := range map[string]any{"type": func() {}, "marshaler": notWritten{}} {
			for _, tx := range []bool{false, true} {
				const many = 8_000 // more than the buffer for pipelines holds
				s.Admin().Del(ctx, "n")
				var cmds []redis.Cmder
				fill := func(p redis.Pipeliner) error {
					for range many {
						p.Incr(ctx, "n")
					}
					p.Set(ctx, "k", value, 0)
					p.Incr(ctx, "n")
					return nil
				}
				unknown := c.Stats().UnknownOutcomes
				require.NoError(t, use(c, ctx, func(conn sender) {
					if tx {
						cmds, _ = conn.TxPipelined(ctx, fill)
					} else {
						cmds, _ = conn.Pipelined(ctx, fill)
					}
				}))
				want := retry.Unknown
				if tx { // without EXEC nothing is executed
					want = retry.NotSent
					require.Zero(t, s.Admin().Exists(ctx, "n").Val())
					require.Equal(t, unknown, c.Stats().UnknownOutcomes)
				}
				require.Len(t, cmds, many+2)
				for i, cmd := range cmds {
					if i == many {
						want = retry.NotSent
					}
					require.Equal(t, want, retry.OutcomeOf(cmd.Err()), "%s, %s, transaction %v, %d: %v", way, name, tx, i, cmd.Err())
				}
			}
			set := c.Set(ctx, "k", value, 0).Err()
			require.Equal(t, retry.NotSent, retry.OutcomeOf(set))
			if name == "marshaler" {
				require.True(t, set == errNotWritten)
			}
		}
	}
}

func TestRepliesThatDoNotFitDoNotOpenTheBreaker(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon), managed.WithRetry(retry.Policy{Breaker: retry.BreakerPolicy{After: 1}}))
	ctx := t.Context()
	for range 10 {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, "k")
			_ = p.Process(ctx, redis.NewIntCmd(ctx, "set", "x", "y"))
			p.Incr(ctx, "n")
			return nil
		})
		require.Error(t, err)
		require.NotErrorIs(t, err, retry.ErrBreakerOpen)
	}
	require.Equal(t, "10", s.Admin().Get(ctx, "n").Val())
}

// inside is a hook of the client inside, around the pipelines of INCRs.
type inside func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error

func (inside) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (inside) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (in inside) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "incr" { // of a handshake
			return next(ctx, cmds)
		}
		return in(ctx, cmds, next)
	}
}

func withAll(but ...string) map[string]func(*managed.Client, context.Context, func(sender)) error {
	all := map[string]func(*managed.Client, context.Context, func(sender)) error{
		"client": func(c *managed.Client, _ context.Context, f func(sender)) error { f(c); return nil },
	}
	for way, use := range keepers {
		if !slices.Contains(but, way) {
			all[way] = use
		}
	}
	return all
}

func incrs(n int) func(redis.Pipeliner) error {
	return func(p redis.Pipeliner) error {
		for range n {
			p.Incr(context.Background(), "n")
		}
		return nil
	}
}

func TestWhatAHookOfTheClientInsideDoesNotSendIsNotCalledDone(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	for name, refusal := range map[string]error{
		"own":     errFull,
		"EOF":     io.EOF,
		"cut":     io.ErrUnexpectedEOF,
		"closed":  net.ErrClosed,
		"network": &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded},
		"number":  &strconv.NumError{Func: "ParseInt", Num: "x", Err: strconv.ErrSyntax},
	} {
		c := client(t, sized(s, 3, soon))
		c.Client.AddHook(inside(func(_ context.Context, cmds []redis.Cmder, _ redis.ProcessPipelineHook) error {
			for _, cmd := range cmds {
				cmd.SetErr(refusal)
			}
			return refusal
		}))
		for way, use := range withAll("Conn of a clone") { // which has no hooks
			require.NoError(t, use(c, ctx, func(conn sender) {
				cmds, err := conn.Pipelined(ctx, incrs(3))
				require.ErrorIs(t, err, refusal, "%s, %s", way, name)
				for _, cmd := range cmds {
					require.ErrorIs(t, cmd.Err(), refusal, "%s, %s", way, name)
				}
			}))
		}
	}
	require.Equal(t, int64(0), s.Admin().Exists(ctx, "n").Val())
}

func TestACommandThatAHookInsideTookOutKeepsItsError(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon))
	ctx := t.Context()
	c.Client.AddHook(inside(func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		cmds[0].SetErr(errFull)
		if err := next(ctx, cmds[1:]); err != nil {
			return err
		}
		return errFull
	}))
	var out, sent *redis.IntCmd
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		out, sent = p.Incr(ctx, "n"), p.Incr(ctx, "n")
		return p.Process(ctx, redis.NewMapStringStringCmd(ctx, "incr", "n"))
	})
	require.Error(t, err)
	require.ErrorIs(t, out.Err(), errFull)
	require.NoError(t, sent.Err())
	require.Equal(t, int64(1), sent.Val())
	require.Equal(t, "2", s.Admin().Get(ctx, "n").Val())
}

func TestAHookMaySplitAPipelineAndLoseItsCtx(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon))
	ctx := t.Context()
	c.AddHook(inside(func(_ context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		if err := next(context.Background(), cmds[:1]); err != nil {
			return err
		}
		return next(context.Background(), cmds[1:])
	}))
	for way, use := range withAll() {
		s.Admin().Del(ctx, "n")
		require.NoError(t, use(c, ctx, func(conn sender) {
			_, err := conn.Pipelined(ctx, incrs(3))
			require.NoError(t, err, way)
		}))
		require.Equal(t, "3", s.Admin().Get(ctx, "n").Val(), way)
	}
}

// lies is code of the caller's that fails with an error which otherwise says that nothing was sent.
type lies struct{ err error }

func (l lies) Write([]byte) (int, error)      { return 0, l.err }
func (l lies) MarshalBinary() ([]byte, error) { return nil, l.err }

func liars() map[string]error {
	return map[string]error{
		"dial":     &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED},
		"canceled": context.Canceled,
		"deadline": context.DeadlineExceeded,
		"pool":     redis.ErrPoolTimeout,
		"closed":   redis.ErrClosed,
	}
}

// reply is an error that looks like one of the server's.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// moody fails only now and then.
type moody struct {
	err error
	n   *int
}

func (m moody) MarshalBinary() ([]byte, error) {
	if *m.n++; *m.n%2 == 1 {
		return nil, m.err
	}
	return []byte("x"), nil
}

type embeddedWriter struct{ *redis.RawWriteToCmd }

func TestAnErrorOfTheCallersCodeIsNotTakenForOneFromBeforeTheCommandWasSent(t *testing.T) {
	s := redistest.Start(t)
	other, err := managed.New(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	ctx := t.Context()
	errOther := other.Ping(ctx).Err()
	require.Error(t, errOther)
	c := client(t, sized(s, 3, soon))
	liars := liars()
	liars["other"] = errOther // of another managed client
	for name, e := range liars {
		for way, use := range withAll() {
			if name == "other" && way != "client" { // its error says that it was not sent, and nothing else is known
				continue
			}
			s.Admin().Del(ctx, "n")
			incr := redis.NewRawWriteToCmd(ctx, lies{e}, "incr", "n")
			require.NoError(t, use(c, ctx, func(conn sender) { _ = conn.Process(ctx, incr) }))
			require.Equal(t, "1", s.Admin().Get(ctx, "n").Val(), "%s, %s: %v", way, name, incr.Err())
			require.Equal(t, retry.Unknown, retry.OutcomeOf(incr.Err()), "%s, %s: %v", way, name, incr.Err())
			require.ErrorIs(t, incr.Err(), e)

			s.Admin().Del(ctx, "n")
			embedded := &embeddedWriter{redis.NewRawWriteToCmd(ctx, lies{e}, "incr", "n")}
			require.NoError(t, use(c, ctx, func(conn sender) { _ = conn.Process(ctx, embedded) }))
			require.Equal(t, "1", s.Admin().Get(ctx, "n").Val(), "%s, %s: %v", way, name, embedded.Err())
			require.Equal(t, retry.Unknown, retry.OutcomeOf(embedded.Err()), "%s, %s: %v", way, name, embedded.Err())

			s.Admin().Del(ctx, "n")
			var cmds []redis.Cmder
			require.NoError(t, use(c, ctx, func(conn sender) {
				cmds, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
					_ = p.Process(ctx, redis.NewRawWriteToCmd(ctx, lies{e}, "incr", "n"))
					return p.Incr(ctx, "n").Err()
				})
			}))
			require.Equal(t, "2", s.Admin().Get(ctx, "n").Val(), "%s, %s", way, name)
			for _, cmd := range cmds {
				require.Equal(t, retry.Unknown, retry.OutcomeOf(cmd.Err()), "%s, %s: %v", way, name, cmd.Err())
			}

			const many = 8_000 // more than the buffer for pipelines holds
			s.Admin().Del(ctx, "n")
			require.NoError(t, use(c, ctx, func(conn sender) {
				cmds, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
					_ = incrs(many)(p)
					p.Set(ctx, "k", lies{e}, 0)
					return p.Incr(ctx, "n").Err()
				})
				require.NotErrorIs(t, conn.Process(ctx, redis.NewStatusCmd(ctx, "set", "k", lies{e})), retry.ErrUnknownOutcome)
			}))
			n, _ := s.Admin().Get(ctx, "n").Int()
			require.LessOrEqual(t, n, many, "%s, %s: sent more than once", way, name)
			for i, cmd := range cmds {
				want := retry.Unknown
				if i >= many {
					want = retry.NotSent
				}
				require.Equal(t, want, retry.OutcomeOf(cmd.Err()), "%s, %s, %d: %v", way, name, i, cmd.Err())
			}
		}
	}
}

// A list of mistakes, as some validators return it, cannot be compared.
type mistakes []error

func (mistakes) Error() string { return "mistakes" }

func TestALongPipelineWithAnErrorThatCannotBeComparedIsJudgedOnce(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon))
	began := time.Now()
	cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		_ = incrs(32_000)(p)
		return p.Set(t.Context(), "k", lies{mistakes{}}, 0).Err()
	})
	require.Error(t, err)
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, retry.Unknown, retry.OutcomeOf(cmds[0].Err()))
	require.Equal(t, retry.NotSent, retry.OutcomeOf(cmds[32_000].Err()))
}

// onNodes are leases of the clients of several nodes, each with one node. hook is added to the node.
func onNodes(t *testing.T, hook redis.Hook, test func(t *testing.T, s *redistest.Server, lease func(func(*managed.Conn)))) {
	s := startOddServers(t)
	with := func(o *redis.Options) *redis.Client {
		c := redis.NewClient(o)
		if hook != nil {
			c.AddHook(hook)
		}
		return c
	}
	slots, ring := slotsOf(s.cluster), s.ring()
	slots.NewClient, ring.NewClient = with, with
	late := managed.NewClusterClient(slotsOf(s.cluster), managed.WithLogger(quiet))
	late.OnNewNode(func(c *redis.Client) {
		if hook != nil {
			c.AddHook(hook)
		}
	})
	for name, x := range map[string]struct {
		c leasing
		s *redistest.Server
	}{
		"cluster":   {managed.NewClusterClient(slots, managed.WithLogger(quiet)), s.cluster},
		"ring":      {managed.NewRing(ring, managed.WithLogger(quiet)), s.single},
		"OnNewNode": {late, s.cluster},
	} {
		t.Run(name, func(t *testing.T) {
			defer x.c.Close()
			test(t, x.s, func(f func(*managed.Conn)) {
				conn, err := x.c.Acquire(t.Context(), "n")
				require.NoError(t, err)
				defer conn.Release()
				f(conn)
			})
		})
	}
}

func TestOnALeaseOfANodeTheConnectionTellsWhetherACommandWasSent(t *testing.T) {
	ctx := t.Context()
	misfits := map[string]func() redis.Cmder{
		"form":   func() redis.Cmder { return redis.NewClientInfoCmd(ctx, "incr", "n") },
		"bulk":   func() redis.Cmder { return redis.NewXMessageSliceCmd(ctx, "incr", "n") },
		"buffer": func() redis.Cmder { return redis.NewZeroCopyStringCmd(ctx, nil, "set", "n", 1, "get") },
		"writer": func() redis.Cmder { return redis.NewRawWriteToCmd(ctx, fullWriter{}, "incr", "n") },
	}
	for name, err := range liars() {
		misfits[name] = func() redis.Cmder { return redis.NewRawWriteToCmd(ctx, lies{err}, "incr", "n") }
	}
	onNodes(t, nil, func(t *testing.T, s *redistest.Server, lease func(func(*managed.Conn))) {
		for name, misfit := range misfits {
			s.Admin().Set(ctx, "n", 0, 0)
			cmd := misfit()
			lease(func(conn *managed.Conn) { _ = conn.Process(ctx, cmd) })
			require.Equal(t, "1", s.Admin().Get(ctx, "n").Val(), name)
			if retry.OutcomeOf(cmd.Err()) != retry.Answered || !strings.Contains(cmd.Err().Error(), "can't parse") {
				require.Equal(t, retry.Unknown, retry.OutcomeOf(cmd.Err()), "%s: %v", name, cmd.Err())
				require.ErrorIs(t, cmd.Err(), retry.ErrUnknownOutcome, name)
			}
			var cmds []redis.Cmder
			s.Admin().Set(ctx, "n", 0, 0)
			lease(func(conn *managed.Conn) {
				cmds, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
					p.Incr(ctx, "m")
					_ = p.Process(ctx, misfit())
					return p.Incr(ctx, "m").Err()
				})
			})
			require.Equal(t, "1", s.Admin().Get(ctx, "n").Val(), name)
			for i, cmd := range cmds {
				require.False(t, cmd.Err() != nil && retry.OutcomeOf(cmd.Err()) == retry.NotSent, "%s, %d: %v", name, i, cmd.Err())
			}
		}
		for name, err := range liars() {
			lease(func(conn *managed.Conn) {
				set := conn.Set(ctx, "k", lies{err}, 0).Err()
				require.Equal(t, retry.NotSent, retry.OutcomeOf(set), "%s: %v", name, set)
				require.ErrorIs(t, set, err)
			})
		}
	})
}

func TestAHookOfANodeThatSendsNothingOnALeaseKeepsItsError(t *testing.T) {
	ctx := t.Context()
	var send bool
	hook := &oddHook{do: func(ctx context.Context, _ []redis.Cmder, next func(context.Context) error) error {
		if send {
			_ = next(ctx)
		}
		return errOdd
	}}
	onNodes(t, hook, func(t *testing.T, s *redistest.Server, lease func(func(*managed.Conn))) {
		for _, send = range []bool{false, true} {
			s.Admin().Set(ctx, "n", 0, 0)
			lease(func(conn *managed.Conn) {
				err := conn.Incr(ctx, "n").Err()
				if send {
					require.ErrorIs(t, err, retry.ErrUnknownOutcome)
					require.ErrorIs(t, err, errOdd)
					require.Equal(t, "1", s.Admin().Get(ctx, "n").Val())
				} else {
					require.True(t, err == errOdd, "%T %v", err, err)
					require.Equal(t, "0", s.Admin().Get(ctx, "n").Val())
				}
			})
		}
	})
}

func TestAnErrorOfTheCallersCodeThatLooksLikeAReplyIsNoReply(t *testing.T) {
	s := startOddServers(t)
	ctx := t.Context()
	single := client(t, sized(s.single, 3, soon))
	cluster := managed.NewClusterClient(slotsOf(s.cluster), managed.WithLogger(quiet))
	ring := managed.NewRing(s.ring(), managed.WithLogger(quiet))
	t.Cleanup(func() { _ = cluster.Close(); _ = ring.Close() })
	errs := map[string]error{"closed": redis.ErrClosed}
	for _, text := range []string{"LOADING x", "READONLY x", "MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "TRYAGAIN x", "EXECABORT x", "ERR x"} {
		errs[text] = reply(text)
	}
	for kind, x := range map[string]struct {
		c sender
		s *redistest.Server
	}{
		"client":  {single, s.single},
		"cluster": {cluster, s.cluster},
		"ring":    {ring, s.single},
	} {
		for name, e := range errs {
			x.s.Admin().Del(ctx, "n")
			x.s.Admin().Del(ctx, "m")
			x.s.Admin().Set(ctx, "big", strings.Repeat("+OK\r\n", 100_000), 0)
			incr := redis.NewRawWriteToCmd(ctx, lies{e}, "incr", "n")
			_ = x.c.Process(ctx, incr)
			require.Equal(t, "1", x.s.Admin().Get(ctx, "n").Val(), "%s, %s: %v", kind, name, incr.Err())
			require.Equal(t, retry.Unknown, retry.OutcomeOf(incr.Err()), "%s, %s: %v", kind, name, incr.Err())
			require.ErrorIs(t, incr.Err(), e)

			// What is read behind the reply that nobody could take is no reply.
			for i := 1; i <= 3; i++ {
				x.s.Admin().Del(ctx, "n")
				big, behind := redis.NewRawWriteToCmd(ctx, lies{e}, "getrange", "big", 0, -1), redis.NewStringCmd(ctx, "getset", "n", "v")
				_, _ = x.c.Pipelined(ctx, func(p redis.Pipeliner) error {
					_ = p.Process(ctx, big)
					return p.Process(ctx, behind)
				})
				require.Error(t, big.Err(), "%s, %s", kind, name)
				if name != "MOVED 1 127.0.0.1:1" && name != "ASK 1 127.0.0.1:1" || kind != "cluster" { // go-redis follows it below all hooks
					require.Equal(t, retry.Unknown, retry.OutcomeOf(behind.Err()), "%s, %s: %q, %v", kind, name, behind.Val(), behind.Err())
				}
				next := redis.NewIntCmd(ctx, "incr", "m")
				require.NoError(t, x.c.Process(ctx, next), "%s, %s", kind, name)
				require.Equal(t, int64(i), next.Val(), "%s, %s", kind, name)
			}
		}
	}
}

func TestAMarshalerThatFailsNowAndThenRepeatsNoPipeline(t *testing.T) {
	s := startOddServers(t)
	ctx := t.Context()
	single := client(t, sized(s.single, 3, soon))
	cluster := managed.NewClusterClient(slotsOf(s.cluster), managed.WithLogger(quiet))
	t.Cleanup(func() { _ = cluster.Close() })
	errs := liars()
	errs["loading"] = reply("LOADING x")
	errs["moved"] = reply("MOVED 1 127.0.0.1:1")
	const many = 8_000 // more than the buffer for pipelines holds
	for kind, x := range map[string]struct {
		c sender
		s *redistest.Server
	}{
		"client":  {single, s.single},
		"cluster": {cluster, s.cluster},
	} {
		for name, e := range errs {
			x.s.Admin().Del(ctx, "n")
			for range 7 { // more than open a breaker
				n := 0
				cmds, err := x.c.Pipelined(ctx, func(p redis.Pipeliner) error {
					_ = incrs(many)(p)
					return p.Set(ctx, "n", moody{e, &n}, 0).Err()
				})
				require.Error(t, err)
				if name != "closed" && name != "pool" {
					require.Equal(t, retry.Unknown, retry.OutcomeOf(cmds[0].Err()), "%s, %s: %v", kind, name, cmds[0].Err())
				}
			}
			n, _ := x.s.Admin().Get(ctx, "n").Int()
			require.LessOrEqual(t, n, 7*many, "%s, %s: sent more than once", kind, name)
			require.NoError(t, x.c.Process(ctx, redis.NewIntCmd(ctx, "incr", "m")), "%s, %s", kind, name)
		}
	}
}

// Its connection is known, and nothing of a short pipeline is written before all of it is.
func TestNothingOfAPipelineOnALeaseIsUnknownIfNothingWasWritten(t *testing.T) {
	onNodes(t, nil, testShortPipelines)
	t.Run("client", func(t *testing.T) {
		s := redistest.Start(t)
		c := client(t, sized(s, 3, soon))
		testShortPipelines(t, s, func(f func(*managed.Conn)) {
			conn, err := c.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			f(conn)
		})
	})
}

func testShortPipelines(t *testing.T, s *redistest.Server, lease func(func(*managed.Conn))) {
	ctx := t.Context()
	errs := liars()
	errs["own"], errs["reply"] = errFull, reply("LOADING x")
	delete(errs, "pool") // on a node it is taken for that of its pool
	bad := map[string]any{"type": struct{}{}}
	for name, e := range errs {
		bad[name] = lies{e}
	}
	for name, arg := range bad {
		for _, tx := range []bool{false, true} {
			lease(func(conn *managed.Conn) {
				send := conn.Pipelined
				if tx {
					send = conn.TxPipelined
				}
				cmds, err := send(ctx, func(p redis.Pipeliner) error {
					p.Incr(ctx, "n")
					p.Set(ctx, "k", arg, 0)
					return p.Incr(ctx, "n").Err()
				})
				require.Error(t, err)
				for _, cmd := range cmds {
					require.NotErrorIs(t, cmd.Err(), retry.ErrUnknownOutcome, "%s, tx %v: %v", name, tx, cmd.Err())
					if e, ok := errs[name]; ok {
						require.ErrorIs(t, cmd.Err(), e)
					}
				}
			})
		}
	}
	require.Zero(t, s.Admin().Exists(ctx, "n").Val())
}
