package managed

import (
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/standin"
)

// Instrument is for libraries that add hooks to a *redis.Client:
//
//	err := rdb.Instrument(func(target *redis.Client) error { return redisotel.InstrumentTracing(target) })
//
// target has the options of this client. It sends nothing: the hooks that fn adds to it run around
// the calls of this client instead, like those of AddHook; hooks that are added after fn has
// returned do not run. Commands on target fail.
//
// For libraries that read the numbers of a pool, such as redisotel.InstrumentMetrics, pass the
// client inside: rdb.Client. Instrument returns the error of fn; then no hook was added. It is safe
// for concurrent use.
func (c *Client) Instrument(fn func(target *redis.Client) error) error {
	s, err := standin.ForClient(c.Options(), fn)
	if err == nil {
		err = c.core.keepStandIn(s)
	}
	if err != nil {
		return err
	}
	c.AddHook(s)
	return nil
}

// Instrument is for libraries that add hooks to a *redis.ClusterClient; see Client.Instrument.
// Hooks that fn adds to target run around the calls of this client. Functions that fn registers
// with target's OnNewNode are called with the clients of the nodes that are used from then on, as
// in go-redis: hooks added to those clients see each attempt.
func (c *ClusterClient) Instrument(fn func(target *redis.ClusterClient) error) error {
	s, err := standin.ForCluster(c.Options(), fn)
	if err == nil {
		err = c.core.keepStandIn(s)
	}
	if err != nil {
		return err
	}
	c.OnNewNode(s.Meet)
	c.AddHook(s)
	return nil
}

// Instrument is for libraries that add hooks to a *redis.Ring; see ClusterClient.Instrument.
func (r *Ring) Instrument(fn func(target *redis.Ring) error) error {
	s, err := standin.ForRing(r.Options(), fn)
	if err == nil {
		err = r.core.keepStandIn(s)
	}
	if err != nil {
		return err
	}
	r.OnNewNode(s.Meet)
	r.core.pollInside() // the stand-in has a goroutine
	r.AddHook(s)
	return nil
}

// keepStandIn keeps a stand-in until the client is closed.
func (c *core) keepStandIn(s *standin.StandIn) error {
	c.standIns.Lock()
	defer c.standIns.Unlock()
	if c.closed.Load() {
		_ = s.Close()
		return redis.ErrClosed
	}
	c.standIns.all = append(c.standIns.all, s)
	return nil
}

func (c *core) closeStandIns() {
	c.standIns.Lock()
	defer c.standIns.Unlock()
	for _, s := range c.standIns.all {
		_ = s.Close()
	}
}
