package managed

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// WithRetry sets what is sent again, how often and when. Default: retry.Default() with the limits
// of Options.MaxRetries, MinRetryBackoff and MaxRetryBackoff. go-redis's own retries are always
// off: they repeat writes that may have been executed. A policy that does not pass its Validate is an
// error.
func WithRetry(p retry.Policy) Option {
	return func(s *settings) error {
		if err := p.Validate(); err != nil {
			return err
		}
		s.retry = &p
		return nil
	}
}

// retryPolicy takes our limits from go-redis's options.
func retryPolicy(opt *redis.Options) retry.Policy {
	p := retry.Default()
	switch {
	case opt.MaxRetries > 0:
		p.MaxAttempts = opt.MaxRetries + 1
	case opt.MaxRetries < 0:
		p.MaxAttempts = 1
	}
	if opt.MinRetryBackoff != 0 || opt.MaxRetryBackoff != 0 {
		base, limit := opt.MinRetryBackoff, opt.MaxRetryBackoff
		if base == 0 {
			base = min(8*time.Millisecond, max(limit, 0))
		}
		if limit == 0 {
			limit = max(512*time.Millisecond, base)
		}
		p.Backoff = retry.FullJitter(base, limit)
	}
	return p
}

// retryHook makes the hook that repeats commands. seen is called for each repetition, before the
// user's OnRetry.
func (c *core) retryHook(opt *redis.Options, seen func(retry.Attempt), more ...retry.Option) *retry.Hook {
	p := retryPolicy(opt)
	if c.set.retry != nil {
		p = *c.set.retry
	}
	onRetry := p.OnRetry
	p.OnRetry = func(a retry.Attempt) {
		seen(a)
		if onRetry != nil {
			onRetry(a)
		}
	}
	h := retry.NewHook(p, append([]retry.Option{retry.WithLogger(c.set.log), retry.WithNode(opt.Addr), retry.WithBreakerHandler(c.breakerChanged)},
		more...)...)
	attempt.InternalsOf(h).SetFacts(c.tracker.Cut(), nil)
	return h
}

// breakerChanged is called when a breaker changes: a node that has failed for so long counts as
// unresponsive, unless something worse is known of it.
func (c *core) breakerChanged(addr string, open bool, cause error) {
	for _, u := range c.units() {
		if c.calls != nil && u.node.Addr() != addr {
			continue
		}
		if open {
			u.node.SetDegraded(cause)
		} else {
			u.node.SetAnswering()
		}
	}
}

var _ interface {
	Unsent() bool
} = (*hooks.ConnError)(nil) // the interfaces that package retry looks for in errors
