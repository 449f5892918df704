package standin

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// ForNode makes a stand-in of a client that a user has made and may have added hooks to, for a
// client that shares its pools. Commands that the user sends on c itself are sent. Hooks that are
// added to c afterwards run around those only.
func ForNode(c *redis.Client) *StandIn {
	s := &StandIn{pipeline: c.Pipeline, close: func() error { return nil }}
	n := &nodeCalls{}
	s.process = func(ctx context.Context, cmd redis.Cmder) error {
		n.underWay.Store(cmd, true)
		defer n.underWay.Delete(cmd)
		return c.Process(ctx, cmd)
	}
	s.calls = n
	c.AddHook(nodeDeparture{departure{s}, n})
	return s
}

// nodeCalls are the calls that a stand-in of a node is passing on: a call that is not among them is
// the user's own.
type nodeCalls struct{ underWay sync.Map }

// nodeDeparture is departure for a client that may be used by itself, too.
type nodeDeparture struct {
	departure
	calls *nodeCalls
}

func (d nodeDeparture) ProcessHook(own redis.ProcessHook) redis.ProcessHook {
	lead := d.departure.ProcessHook(own)
	return func(ctx context.Context, cmd redis.Cmder) error {
		if ctx.Value(nextKey(d.departure)) != nil {
			return lead(ctx, cmd)
		}
		if _, ours := d.calls.underWay.Load(cmd); ours {
			return conntrack.ErrLostContext
		}
		return own(ctx, cmd)
	}
}

func (d nodeDeparture) ProcessPipelineHook(own redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	lead := d.departure.ProcessPipelineHook(own)
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if ctx.Value(nextPipeKey(d.departure)) != nil {
			return lead(ctx, cmds)
		}
		for _, cmd := range cmds {
			if _, ours := d.calls.underWay.Load(cmd); ours {
				return conntrack.ErrLostContext
			}
		}
		return own(ctx, cmds)
	}
}
