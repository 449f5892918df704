package lease

import (
	"log/slog"
	"runtime"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Release gives the connection back. A command in flight is left to finish. owner is the one that
// Open got. Only the first call of Release or Discard does anything.
func (l *Lease) Release(owner any) { l.finish(released, owner) }

// Discard closes the connection. A command in flight fails. owner is the one that Open got.
func (l *Lease) Discard(owner any) { l.finish(discarded, owner) }

func (l *Lease) finish(how uint32, owner any) {
	if l.end(how) && l.hasFinalizer {
		runtime.SetFinalizer(owner, nil)
	}
}

// end ends the lease, once; it reports whether this call did it.
func (l *Lease) end(how uint32) bool {
	if !l.state.CompareAndSwap(held, how) {
		return false
	}
	l.pool.remove(l)
	l.pool.Hold.Record(l.For())
	if l.profiled {
		profile.Remove(l)
	}
	if how != released && l.inFlight.Load() > 0 {
		l.Tracked.Interrupt(ErrReleased)
	}
	l.settle()
	return true
}

// settle returns the connection once the lease has ended and no command runs on it: closing
// go-redis's Conn during a command would be a data race.
func (l *Lease) settle() {
	how := l.state.Load()
	if how == held || l.inFlight.Load() > 0 || !l.settled.CompareAndSwap(false, true) {
		return
	}
	hasState, undoable := l.Tracked.HasSessionState()
	reason := hooks.Reason("")
	switch {
	case how == discarded:
		reason = hooks.ReasonDiscarded
	case how == dropped:
		reason = hooks.ReasonLeak
	case hasState && !undoable:
		reason = hooks.ReasonSessionState
	case l.Tracked.Evicting():
		reason = l.Tracked.Info().Closing
	case hasState:
		if err := conntrack.Undo(l.Conn, l.Tracked); err != nil {
			reason = hooks.ReasonSessionState
		}
	}
	if reason != "" {
		conntrack.Discard(l.Conn, l.Tracked, reason)
	}
	l.Tracked.SetLeased(false)
	_ = l.Conn.Close()
	l.pool.Node.Leave(hooks.PoolMain)
	l.ended(how)
}

// ended reports the end of a lease to the event handler.
func (l *Lease) ended(how uint32) {
	if how == dropped {
		l.pool.Client.Tracker.Emit(l.event(hooks.Reclaimed))
		return
	}
	if l.reported.Load() {
		l.report(slog.LevelInfo, hooks.Reclaimed, "lifeguard: a lease that was held too long was released")
	}
	if l.pool.Client.Tracker.Observed() {
		l.pool.Client.Tracker.Emit(l.event(hooks.Released))
	}
}
