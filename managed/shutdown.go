package managed

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// ErrShutdown is returned by commands after CloseGracefully was called; errors.Is with
// redis.ErrClosed is true as well. They were not sent.
var ErrShutdown error = shutdownError{}

type shutdownError struct{}

func (shutdownError) Error() string        { return "lifeguard/managed: the client is shutting down" }
func (shutdownError) Is(target error) bool { return target == redis.ErrClosed }

// HeldError says which leases and commands CloseGracefully interrupted when its ctx ended.
type HeldError struct {
	Leases   []LeaseInfo      // leases that were still held
	InFlight []hooks.ConnInfo // connections with a command in flight and no lease
	Waiting  int              // further commands and transactions: waiting for a connection, or between attempts
	Err      error            // the error of ctx
}

func (e *HeldError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lifeguard/managed: shut down with %s held and %s in flight", errtext.Count(len(e.Leases), "lease"), errtext.Count(len(e.InFlight), "command"))
	if e.Waiting > 0 {
		fmt.Fprintf(&b, ", %d more waiting", e.Waiting)
	}
	writeHolders(&b, e.Leases, len(e.Leases), e.InFlight, len(e.InFlight))
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns the error of ctx.
func (e *HeldError) Unwrap() error { return e.Err }

// Timeout reports whether ctx's deadline passed. It makes the error a net.Error.
func (e *HeldError) Timeout() bool { return errtext.IsTimeout(e.Err) }

// Temporary returns the same as Timeout.
func (e *HeldError) Temporary() bool { return e.Timeout() }

// CloseGracefully closes the client once it is unused: new commands and leases are refused with
// ErrShutdown; commands in flight, transactions and leases may finish; then the client is closed.
// If ctx ends first, it is closed anyway and the error is a *HeldError that names who held what.
// Subscriptions do not delay it. A second call returns redis.ErrClosed. On a handle of Shared it is
// Close.
func (c *Client) CloseGracefully(ctx context.Context) error {
	if c.own.close != nil {
		return c.Close()
	}
	return c.core.drain(ctx, func() { c.core.tracker.Refuse(ErrShutdown) })
}

// drain waits until nobody uses a connection, then closes.
func (c *core) drain(ctx context.Context, refuse func()) error {
	if !c.draining.CompareAndSwap(false, true) || c.closed.Load() {
		return redis.ErrClosed
	}
	c.stopBatched()
	if refuse != nil {
		refuse()
	}
	var held *HeldError
	for wait := 200 * time.Microsecond; !c.idle(); wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-ctx.Done():
			held = c.holders(ctx.Err())
		case <-time.After(wait):
			continue
		}
		break
	}
	err := c.close()
	if held != nil {
		return held
	}
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}

// idle reports whether nobody uses a connection.
func (c *core) idle() bool {
	if c.calls != nil && c.calls() > 0 {
		return false
	}
	for _, u := range c.units() {
		if u.node.InFlight(hooks.PoolMain)+u.node.InFlight(hooks.PoolPipeline) > 0 {
			return false
		}
		if u.leases.Len() > 0 {
			return false
		}
	}
	return true
}

func (c *core) holders(why error) *HeldError {
	e := &HeldError{Leases: c.Leases(), InFlight: c.busy(nil), Err: why}
	for _, u := range c.units() {
		e.Waiting += u.node.InFlight(hooks.PoolMain) + u.node.InFlight(hooks.PoolPipeline) - u.node.Pinned()
	}
	e.Waiting = max(0, e.Waiting-len(e.Leases)-len(e.InFlight))
	return e
}

// busy describes the connections with a command in flight and no lease, the
// longest first; of one node's main pool, or of all.
func (c *core) busy(n *conntrack.Node) []hooks.ConnInfo {
	var out []hooks.ConnInfo
	each := c.tracker.Range
	if n != nil {
		each = n.Range
	}
	each(func(conn *conntrack.Conn) bool {
		v := conn.View() // cheaper than Info
		if v.Ready && v.Awaiting && !v.Leased && !v.PubSub && (n == nil || v.Pool != hooks.PoolPipeline) {
			out = append(out, conn.Info())
		}
		return true
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Idle > out[j].Idle })
	return out
}
