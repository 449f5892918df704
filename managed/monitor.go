package managed

import (
	"github.com/lifeguard-redis/lifeguard/internal/source"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// WithMonitor makes the client's Monitor with these options and starts it: samples are taken every
// period (monitor.WithInterval, default 10 s), thresholds are checked, and alerts that no callback
// gets are logged. Default: the Monitor is not started until a callback is registered or its Start
// is called, but it counts, so that Stats can be read at any time. Options that monitor.New refuses
// are an error.
func WithMonitor(opts ...monitor.Option) Option {
	return func(s *settings) error {
		s.monitor, s.monitored = append(s.monitor, opts...), true
		return nil
	}
}

// watch makes the Monitor.
func (c *core) watch(retries func() retry.Stats) (err error) {
	c.retries = retries
	opts := append([]monitor.Option{monitor.WithLogger(c.set.log)}, c.set.monitor...)
	c.monitor, err = monitor.New(&source.Source{Tracker: c.tracker, Keeper: c.keeper, LeakThreshold: c.set.leakThreshold, Pools: c.pools,
		Retries: retries, Several: c.calls != nil, Before: func() { c.closeIfInsideIs() }}, opts...)
	if err == nil && c.set.monitored {
		c.monitor.Start()
	}
	return err
}

// pools returns the pools of all units, for the Monitor.
func (c *core) pools() []*source.Pool {
	units := c.units()
	pools := make([]*source.Pool, len(units))
	for i, u := range units {
		pools[i] = &u.pool
	}
	return pools
}
