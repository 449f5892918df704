package managed_test

import (
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// go-redis sends nothing on a Conn, a Tx or a lease that has failed; it wraps the
// error of the command that did. That one's outcome is not that of the others.
func TestWhatIsNotSentOnAConnectionThatHasFailedHasNoUnknownOutcome(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = p.Addr()
	ctx := t.Context()
	cut := func(int, []byte) redistest.Action { return redistest.CutBefore }
	notSent := func(t *testing.T, err error) {
		t.Helper()
		assert.ErrorIs(t, err, io.EOF)
		assert.NotErrorIs(t, err, retry.ErrUnknownOutcome)
		assert.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%v", err)
		assert.True(t, strings.HasPrefix(err.Error(), "redis: Conn is in a bad state"), err.Error())
	}
	for _, x := range []struct {
		name string
		do   func(*testing.T, *managed.Client)
	}{
		{"a lease", func(t *testing.T, c *managed.Client) {
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			defer conn.Release()
			p.OnReply(cut)
			require.Equal(t, retry.Unknown, retry.OutcomeOf(conn.Get(ctx, "k").Err()))
			notSent(t, conn.Incr(ctx, "n").Err())
			_, err = conn.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			notSent(t, err)
		}},
		{"a Conn", func(t *testing.T, c *managed.Client) {
			conn := c.Conn()
			defer conn.Close()
			require.NoError(t, conn.Ping(ctx).Err())
			p.OnReply(cut)
			require.Equal(t, retry.Unknown, retry.OutcomeOf(conn.Get(ctx, "k").Err()))
			notSent(t, conn.Incr(ctx, "n").Err())
			_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			notSent(t, err)
		}},
		{"a Watch", func(t *testing.T, c *managed.Client) {
			err := c.Watch(ctx, func(tx *redis.Tx) error { // ends with an UNWATCH of go-redis's own
				p.OnReply(cut)
				require.Equal(t, retry.Unknown, retry.OutcomeOf(tx.Get(ctx, "k").Err()))
				notSent(t, tx.Incr(ctx, "n").Err())
				_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
				return err
			}, "k")
			notSent(t, err)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			p.OnReply(nil)
			c := client(t, opt)
			x.do(t, c)
			assert.Zero(t, c.RetryStats().UnknownOutcomes)
			assert.ErrorIs(t, s.Admin().Get(ctx, "n").Err(), redis.Nil)
		})
	}
}
