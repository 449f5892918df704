package managed

import (
	"log/slog"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// profile contains the held leases whose whole stack was kept, as runtime/pprof profile
// "lifeguard.leases".
var profile = func() *pprof.Profile {
	const name = "lifeguard.leases"
	if p := pprof.Lookup(name); p != nil {
		return p
	}
	return pprof.NewProfile(name)
}()

// watch starts the timer that checks for leases held too long, unless it runs. The caller holds the
// lock.
func (ll *leaseList) watch(d time.Duration) {
	if ll.ticking || ll.core.set.leakThreshold <= 0 {
		return
	}
	ll.ticking = true
	if ll.timer == nil {
		ll.timer = time.AfterFunc(d, ll.report)
	} else {
		ll.timer.Reset(d)
	}
}

// youth is how long a lease is held before the runtime is asked to report when its Conn is dropped.
// Most leases have ended by then, and asking costs as much as everything else about a lease.
const youth = 20 * time.Millisecond

// grow starts the timer for the leases that are young now, unless it runs. The caller holds the
// lock.
func (ll *leaseList) grow(d time.Duration) {
	if ll.growing {
		return
	}
	ll.growing = true
	if ll.growth == nil {
		ll.growth = time.AfterFunc(d, ll.grown)
	} else {
		ll.growth.Reset(d)
	}
}

// grown registers every lease that existed at its last run with the runtime, and runs again if
// there are younger ones.
func (ll *leaseList) grown() {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	ll.growing = false
	for l := ll.last; l != nil && !l.watched; l = l.prev {
		if !l.grown {
			l.grown = true
			ll.grow(youth)
			continue
		}
		runtime.SetFinalizer(l.young, forgotten)
		l.watched, l.young = true, nil
	}
}

// forgotten runs on the finalizer goroutine, which must not block.
func forgotten(c *Conn) { go c.lease.collected() }

// report reports every lease that has been held for longer than the threshold, once each (in the
// log: once for each site of an Acquire), and schedules its next run for when the next lease may
// exceed it.
func (ll *leaseList) report() {
	threshold := ll.core.set.leakThreshold
	now := ll.core.tracker.Now()
	next := threshold
	var leaks []*lease
	ll.mu.Lock()
	for l := ll.first; l != nil; l = l.next {
		age := now.Sub(l.start)
		if age < threshold {
			next = threshold - age
			break // the rest are younger
		}
		if l.reported.CompareAndSwap(false, true) {
			l.leaked()
			leaks = append(leaks, l)
		}
	}
	ll.ticking = false
	if ll.last != nil && !ll.last.reported.Load() {
		ll.watch(max(next, time.Millisecond))
	}
	ll.mu.Unlock()
	bySite := map[string][]LeaseInfo{} // the oldest first
	for _, l := range leaks {
		i := l.info(now)
		bySite[i.Site()] = append(bySite[i.Site()], i)
		l.emit(hooks.Leaked, i)
	}
	for _, all := range bySite {
		ll.core.sites.Add(slog.LevelWarn, "lifeguard: a lease is held for longer than the leak threshold; is a Release missing?", all[0].forLog(), len(all))
	}
}

// leaked records a leak, and its call site.
func (l *lease) leaked() {
	l.unit.meter.leaks.Add(1)
	l.core.leaky.Add(&l.callers)
}

// tell logs and emits an event of a lease.
func (l *lease) tell(level slog.Level, kind hooks.EventKind, text string) {
	i := l.info(l.core.tracker.Now())
	l.core.sites.Add(level, text, i.forLog(), 1)
	l.emit(kind, i)
}

func (l *lease) emit(kind hooks.EventKind, i LeaseInfo) {
	e := l.event(kind)
	e.Stack = i.Stack()
	l.core.tracker.Emit(e)
}

func (l *lease) event(kind hooks.EventKind) hooks.Event {
	site, _ := l.callers.Resolve()
	info := l.tracked.Info()
	return hooks.Event{Kind: kind, Node: info.Node, ConnID: info.ID, Label: l.label, Site: site,
		Took: l.core.tracker.Now().Sub(l.start)}
}

// collected reclaims a lease whose Conn was dropped without Release. A command that is still
// running on it ends first: it may have been the last use of the Conn.
func (l *lease) collected() {
	l.orphan.Store(true)
	if l.inFlight.Load() == 0 {
		l.reclaim()
	}
}

// reclaim ends a lease that nobody can release any more.
func (l *lease) reclaim() {
	if l.state.Load() != held || !l.orphan.CompareAndSwap(true, false) {
		return
	}
	if !l.reported.Swap(true) {
		l.leaked()
	}
	l.tell(slog.LevelError, hooks.Leaked, "lifeguard: a lease was dropped without Release; its connection is closed")
	l.end(dropped)
}
