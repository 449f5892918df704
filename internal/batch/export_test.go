package batch

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Probe reads and sets what decides about batches. It is not safe while calls are made, except
// where it says otherwise.
type Probe struct{ a *Adaptive }

// ProbeOf returns the Probe of a client that Adaptive made.
func ProbeOf(c redis.UniversalClient) Probe { return Probe{c.(*Adaptive)} }

// NeverStalled makes the client treat no batch as stalled.
func (p Probe) NeverStalled() { p.a.one.stallAfter = time.Hour }

// FarAway makes the client treat the server as one to which several batches are sent at a time.
func (p Probe) FarAway() { p.a.one.atOnce = mostAtOnce }

// Queued returns how many commands wait for their batch. It is safe at any time.
func (p Probe) Queued() int {
	b := p.a.one
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		return 0
	}
	return len(b.open.cmds)
}

// Pick counts a call, and reports whether it would be batched; Finish ends it. Both are safe at any
// time.
func (p Probe) Pick() bool { return p.a.pick(context.Background()) }
func (p Probe) Finish()    { p.a.finish() }

// InFlight returns how many calls are counted. It is safe at any time.
func (p Probe) InFlight() int64 { return p.a.inFlight.Load() }

// Threshold returns how many calls must be in flight for batches. It is safe at any time.
func (p Probe) Threshold() int64 { return p.a.threshold.Load() }
