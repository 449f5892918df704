package managed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// failing is a StreamingCredentialsProvider that has none.
type failing struct{ err error }

func (f failing) Subscribe(auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	return nil, nil, f.err
}

// ofOthers are errors that the caller's own code may return, because it uses other connections.
var ofOthers = []error{errMine, io.EOF, &net.OpError{Op: "read", Err: errMine}, redis.Nil, redis.TxFailedErr, redis.ErrPoolTimeout,
	reply("READONLY You can't write against a read only replica."), reply("MOVED 1 127.0.0.1:1"), reply("WRONGPASS x"), context.Canceled}

func TestAnErrorOfStreamingCredentialsSaysThatNothingWasSent(t *testing.T) {
	s := redistest.Start(t)
	for _, cause := range ofOthers {
		opt := s.Options()
		opt.StreamingCredentialsProvider = failing{cause}
		ring := &redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, StreamingCredentialsProvider: failing{cause}}
		one, many := managed.NewClient(opt, managed.WithLogger(quiet)), managed.NewRing(ring, managed.WithLogger(quiet))
		for name, c := range map[string]managed.UniversalClient{"client": one, "ring": many} {
			check := func(how string, err error) {
				t.Helper()
				require.True(t, errors.Is(err, cause) || errors.Is(err, context.DeadlineExceeded), "%s, %s, %v: %v", name, how, cause, err)
				require.True(t, err == errMine || cause != errMine, "%s, %s: %T %v", name, how, err, err)
				require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%s, %s: %T %v", name, how, err, err)
				var full *managed.ExhaustedError
				require.False(t, errors.As(err, &full), "%s, %s: %v", name, how, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			two := func(p redis.Pipeliner) error { p.Incr(ctx, "{n}"); p.Incr(ctx, "{n}"); return nil }
			check("command", c.Incr(ctx, "{n}").Err())
			for how, f := range map[string]func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){"pipeline": c.Pipelined, "transaction": c.TxPipelined} {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				cmds, err := f(ctx, two)
				cancel()
				check(how, err)
				for _, cmd := range cmds {
					check(how, cmd.Err())
				}
			}
			cancel()
			require.Zero(t, c.Stats().UnknownOutcomes)
			require.NoError(t, c.Close())
		}
		require.Zero(t, s.Admin().Exists(t.Context(), "{n}").Val())
	}
}

// A Dialer may ask another Redis for the address, and return its error.
func TestTheErrorOfADialerThatUsesAnotherClientIsThatOfADial(t *testing.T) {
	s := redistest.Start(t)
	for _, cause := range ofOthers {
		t.Run(fmt.Sprintf("%T %v", cause, cause), func(t *testing.T) {
			var well atomic.Bool
			opt := s.Options()
			opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if well.Load() {
					return (&net.Dialer{}).DialContext(ctx, network, addr)
				}
				return nil, cause
			}
			c := client(t, opt)
			notSent := func(err error) {
				t.Helper()
				require.True(t, errors.Is(err, cause) || errors.Is(err, context.DeadlineExceeded), "%v", err)
				require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%T %v", err, err)
				var full *managed.ExhaustedError
				require.False(t, errors.As(err, &full), "%v", err)
			}
			for range 2 { // the second one meets a closed gate
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				notSent(c.Incr(ctx, "n").Err())
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
				_, err := c.Acquire(ctx)
				notSent(err)
				cancel()
			}
			done := make(chan error, 1)
			go func() { done <- c.Incr(t.Context(), "n").Err() }()
			redistest.Eventually(t, "a call waits", soon, func() bool { return c.Conns() != nil || c.RetryStats().Retries > 0 })
			well.Store(true)
			require.NoError(t, <-done)
			require.Zero(t, c.Stats().UnknownOutcomes)
		})
	}
}

func TestAnAcquireThatFailsSaysThatNothingWasSent(t *testing.T) {
	s := redistest.Start(t)
	notSent := func(opt *redis.Options, cause error) {
		t.Helper()
		c := client(t, opt)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := c.Acquire(ctx)
		require.Error(t, err)
		require.True(t, cause == nil || errors.Is(err, cause) || errors.Is(err, context.DeadlineExceeded), "%v", err)
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%T %v", err, err)
	}
	for _, cause := range ofOthers {
		opt := s.Options()
		opt.OnConnect = func(context.Context, *redis.Conn) error { return cause }
		notSent(opt, cause)
	}
	opt := s.Options()
	opt.Username, opt.Password = "nobody", "x"
	notSent(opt, nil)
	cut := redistest.NewProxy(t, s.Addr())
	cut.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	opt = s.Options()
	opt.Addr = cut.Addr()
	notSent(opt, io.EOF)
	mute := s.Options()
	mute.Addr, mute.ReadTimeout = redistest.Mute(t), 50*time.Millisecond
	notSent(mute, nil)
}

// go-redis does not use a Conn any more whose server has answered READONLY; its error has that reply
// inside.
func TestOnAConnThatDiedOfAReplyNothingIsSent(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	ctx := t.Context()
	lease, err := c.Acquire(ctx)
	require.NoError(t, err)
	defer lease.Release()
	conn := c.Conn()
	defer conn.Close()
	require.NoError(t, conn.Ping(ctx).Err())
	const script = "return redis.error_reply('READONLY x')"
	for name, on := range map[string]interface {
		Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd
		Incr(ctx context.Context, key string) *redis.IntCmd
		TxPipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
	}{"lease": lease, "Conn": conn} {
		require.Equal(t, retry.Answered, retry.OutcomeOf(on.Eval(ctx, script, nil).Err()), name)
		before := c.RetryStats().Retries
		err := on.Incr(ctx, "n").Err()
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%s: %T %v", name, err, err)
		_, err = on.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%s: %T %v", name, err, err)
		require.Equal(t, before, c.RetryStats().Retries, name)
	}
	require.Zero(t, s.Admin().Exists(ctx, "n").Val())
}

// go-redis calls OnConnect for connections to Sentinels, too.
func TestAnErrorOfOnConnectForASentinelSaysThatNothingWasSent(t *testing.T) {
	master, opt := redistest.StartOneSentinel(t)
	for _, cause := range ofOthers {
		opt.OnConnect = func(context.Context, *redis.Conn) error { return cause }
		c := managed.NewFailoverClient(opt, managed.WithLogger(quiet))
		for how, call := range increments {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			err := call(ctx, c)
			cancel()
			require.Error(t, err)
			require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%v, %s: %T %v", cause, how, err, err)
		}
		require.Zero(t, c.Stats().UnknownOutcomes)
		require.NoError(t, c.Close())
	}
	require.Zero(t, master.Admin().Exists(t.Context(), "n").Val())
}

func TestOnEachClientAReplyOfTheCallersOwnIsNoReplyToACommand(t *testing.T) {
	s := startOddServers(t)
	const script = "return redis.call('incr', KEYS[1])"
	ways := map[string]func(ctx context.Context, c managed.UniversalClient) []redis.Cmder{
		"command": func(ctx context.Context, c managed.UniversalClient) []redis.Cmder {
			return []redis.Cmder{c.Incr(ctx, "n")}
		},
		"script": func(ctx context.Context, c managed.UniversalClient) []redis.Cmder {
			return []redis.Cmder{c.Eval(ctx, script, []string{"n"})}
		},
		"pipeline": func(ctx context.Context, c managed.UniversalClient) []redis.Cmder {
			cmds, _ := c.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Eval(ctx, script, []string{"n"}).Err() })
			return cmds
		},
		"transaction": func(ctx context.Context, c managed.UniversalClient) []redis.Cmder {
			cmds, _ := c.TxPipelined(ctx, incrs(2))
			return cmds
		},
	}
	for _, text := range []string{"CLUSTERDOWN x", "TRYAGAIN x", "UNBLOCKED x", "EXECABORT x", "LOADING x", "READONLY x", "MOVED 1 127.0.0.1:1"} {
		for _, source := range []string{"credentials", "OnConnect"} {
			var credentials func(context.Context) (string, string, error)
			var onConnect func(context.Context, *redis.Conn) error
			if source == "credentials" {
				credentials = func(context.Context) (string, string, error) { return "", "", reply(text) }
			} else {
				onConnect = func(context.Context, *redis.Conn) error { return reply(text) }
			}
			single, ring, cluster, failover := s.single.Options(), s.ring(), slotsOf(s.cluster), *s.sentinel
			single.CredentialsProviderContext, single.OnConnect = credentials, onConnect
			ring.CredentialsProviderContext, ring.OnConnect = credentials, onConnect
			cluster.CredentialsProviderContext, cluster.OnConnect = credentials, onConnect
			failover.CredentialsProviderContext, failover.OnConnect = credentials, onConnect
			log := managed.WithLogger(quiet)
			for kind, c := range map[string]managed.UniversalClient{
				"client": managed.NewClient(single, log), "ring": managed.NewRing(ring, log), "cluster": managed.NewClusterClient(cluster, log),
				"failover": managed.NewFailoverClient(&failover, log), "failover cluster": managed.NewFailoverClusterClient(&failover, log),
			} {
				for way, send := range ways {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
					for _, cmd := range send(ctx, c) {
						require.Error(t, cmd.Err())
						require.Equal(t, retry.NotSent, retry.OutcomeOf(cmd.Err()), "%s, %s, %s, %s: %T %v", kind, source, way, text, cmd.Err(), cmd.Err())
					}
					cancel()
				}
				require.NoError(t, c.Close())
			}
		}
	}
	for _, s := range []*redistest.Server{s.single, s.cluster, s.master} {
		require.Zero(t, s.Admin().Exists(t.Context(), "n").Val())
	}
}
