package standin

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// StandIn is a go-redis client that is never dialed. The hooks added to it run around the calls of
// another client: that client passes each call to the stand-in, and the stand-in's innermost hook
// leads back. As a hook it belongs to the other client.
type StandIn struct {
	close    func() error
	meet     func(node *redis.Client) // nil for a client of one server
	process  func(context.Context, redis.Cmder) error
	pipeline func() redis.Pipeliner
	dial     func(context.Context, ...string) *redis.PubSub
	given    sync.Map // the commands that are being passed on, and the ctx with which
}

// Keys of a ctx for what a call continues with.
type (
	nextKey     struct{ of *StandIn }
	nextPipeKey struct{ of *StandIn }
	nextDialKey struct{}
)

// options returns the options of the client that it stands for, without those that would make it
// act.
func (s *StandIn) options(of *redis.Options) *redis.Options {
	opt := *of
	opt.Dialer = dialNext
	opt.OnConnect, opt.Limiter, opt.StreamingCredentialsProvider = nil, nil, nil
	opt.ClientSideCache, opt.ClientSideCacheConfig, opt.PushNotificationProcessor = nil, nil, nil
	opt.MinIdleConns, opt.PipelinePoolSize, opt.MaxRetries, opt.DialerRetries = 0, -1, -1, 1
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &opt
}

var errNotReal = errors.New("lifeguard/managed: the client that Instrument gives is for adding hooks to: it sends nothing; use the managed client")

// ProcessHook passes a command to the stand-in.
func (s *StandIn) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		ctx = context.WithValue(ctx, nextKey{s}, next)
		s.given.Store(cmd, ctx)
		defer s.given.Delete(cmd)
		return s.process(ctx, cmd)
	}
}

// ProcessPipelineHook passes a pipeline to the stand-in, or a transaction that already contains
// MULTI and EXEC.
func (s *StandIn) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ctx = context.WithValue(ctx, nextPipeKey{s}, next)
		p := s.pipeline()
		for _, cmd := range cmds {
			_ = p.Process(ctx, cmd)
			s.given.Store(cmd, ctx)
			defer s.given.Delete(cmd)
		}
		_, err := p.Exec(ctx)
		return err
	}
}

// DialHook passes a dial to the stand-in. go-redis dials with a caller's ctx only for a
// subscription, so this is one.
func (s *StandIn) DialHook(next redis.DialHook) redis.DialHook {
	if s.dial == nil {
		return next
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := &dialing{next: next, network: network, addr: addr}
		ctx = context.WithValue(ctx, nextDialKey{}, d)
		sub := s.dial(ctx)
		err := sub.Ping(ctx)
		_ = sub.Close()
		if !d.over {
			return nil, err
		}
		return d.conn, d.err
	}
}

// dialing is a dial that passes through a stand-in.
type dialing struct {
	next          redis.DialHook
	network, addr string
	over          bool
	conn          net.Conn
	err           error
}

// dialNext is the dialer of a stand-in.
func dialNext(ctx context.Context, _, _ string) (net.Conn, error) {
	d, _ := ctx.Value(nextDialKey{}).(*dialing)
	if d == nil {
		return nil, errNotReal
	}
	return d.next(ctx, d.network, d.addr)
}

// arrival is the first hook of a stand-in: it takes the connection that was dialed, and the
// stand-in does not get it.
type arrival struct{}

func (arrival) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d, _ := ctx.Value(nextDialKey{}).(*dialing)
		if d == nil {
			return nil, errNotReal
		}
		d.conn, d.err = next(ctx, d.network, d.addr)
		d.over = true
		return nil, errNotReal
	}
}
func (arrival) ProcessHook(redis.ProcessHook) redis.ProcessHook                         { return nil }
func (arrival) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// departure is the last hook of a stand-in: it continues the call.
type departure struct {
	of   *StandIn
	node bool // the stand-in is a client that may be used by itself, too
}

func (departure) DialHook(redis.DialHook) redis.DialHook { return nil }

func (d departure) ProcessHook(own redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		ctx = d.found(ctx, nextKey{d.of}, cmd)
		if next, ok := ctx.Value(nextKey{d.of}).(redis.ProcessHook); ok {
			return next(ctx, cmd)
		}
		if d.node {
			return own(ctx, cmd)
		}
		return errNotReal
	}
}

func (d departure) ProcessPipelineHook(own redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		ctx = d.found(ctx, nextPipeKey{d.of}, cmds...)
		if next, ok := ctx.Value(nextPipeKey{d.of}).(redis.ProcessPipelineHook); ok {
			return next(ctx, cmds)
		}
		if d.node {
			return own(ctx, cmds)
		}
		return errNotReal
	}
}

// found returns ctx, with the values of the ctx of one of these commands if a hook has gone on
// without them.
func (d departure) found(ctx context.Context, next any, cmds ...redis.Cmder) context.Context {
	if ctx.Value(next) != nil {
		return ctx
	}
	for _, cmd := range cmds {
		if given, ok := d.of.given.Load(cmd); ok {
			return conntrack.Carry(ctx, given.(context.Context))
		}
	}
	return ctx
}
