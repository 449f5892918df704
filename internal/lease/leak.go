package lease

import (
	"log/slog"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/callsite"
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

// scheduleReport starts the timer that checks for leases held too long, unless it runs. The caller
// holds the lock.
func (p *Pool) scheduleReport(d time.Duration) {
	if p.reporting || p.Client.Threshold <= 0 {
		return
	}
	p.reporting = true
	if p.reports == nil {
		p.reports = time.AfterFunc(d, p.report)
	} else {
		p.reports.Reset(d)
	}
}

// finalizerDelay is how long a lease is held before its owner gets a finalizer. Most leases have
// ended by then, and setting a finalizer costs as much as everything else about a lease.
const finalizerDelay = 20 * time.Millisecond

// scheduleFinalizers starts the timer that sets the finalizers of new leases, unless it runs. The
// caller holds the lock.
func (p *Pool) scheduleFinalizers() {
	if p.finalizing {
		return
	}
	p.finalizing = true
	if p.finalizers == nil {
		p.finalizers = time.AfterFunc(finalizerDelay, p.setFinalizers)
	} else {
		p.finalizers.Reset(finalizerDelay)
	}
}

// setFinalizers sets one for every lease that existed at its last run, and runs again if there are
// newer ones.
func (p *Pool) setFinalizers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finalizing = false
	for l := p.last; l != nil && !l.hasFinalizer; l = l.prev {
		if !l.second {
			l.second = true
			p.scheduleFinalizers()
			continue
		}
		runtime.SetFinalizer(l.owner, func(any) { go l.collected() }) // a finalizer must not block
		l.hasFinalizer, l.owner = true, nil
	}
}

// report reports every lease that has been held for longer than the threshold, once each (in the
// log: once for each site of an Acquire), and schedules its next run for when the next lease may
// exceed it.
func (p *Pool) report() {
	threshold := p.Client.Threshold
	now := p.Client.Tracker.Now()
	next := threshold
	var leaks []*Lease
	p.mu.Lock()
	for l := p.first; l != nil; l = l.next {
		age := now.Sub(l.Start)
		if age < threshold {
			next = threshold - age
			break // the rest are younger
		}
		if l.reported.CompareAndSwap(false, true) {
			l.leaked()
			leaks = append(leaks, l)
		}
	}
	p.reporting = false
	if p.last != nil && !p.last.reported.Load() {
		p.scheduleReport(max(next, time.Millisecond))
	}
	p.mu.Unlock()
	bySite := map[string][]*Lease{} // the oldest first
	for _, l := range leaks {
		bySite[l.Site()] = append(bySite[l.Site()], l)
		l.emit(hooks.Leaked)
	}
	for _, all := range bySite {
		all[0].log(slog.LevelWarn, "lifeguard: a lease is held for longer than the leak threshold; is a Release missing?", len(all))
	}
}

// leaked records a leak, and its call site.
func (l *Lease) leaked() {
	l.pool.Leaks.Add(1)
	l.pool.Client.leaky.Add(&l.callers)
}

// report logs and emits an event of a lease.
func (l *Lease) report(level slog.Level, kind hooks.EventKind, text string) {
	l.log(level, text, 1)
	l.emit(kind)
}

// log logs a text about n leases of one site, of which l is the oldest.
func (l *Lease) log(level slog.Level, text string, n int) {
	c := l.Tracked.Info()
	l.pool.Client.Log.Add(level, text, callsite.Held{Stack: &l.callers, For: l.For(), Label: l.Label, ConnID: c.ID, Node: c.Node,
		LastCommand: c.LastCommand}, n)
}

// emit emits an event with the stack of the Acquire.
func (l *Lease) emit(kind hooks.EventKind) {
	e := l.event(kind)
	_, e.Stack = l.callers.Resolve()
	l.pool.Client.Tracker.Emit(e)
}

func (l *Lease) event(kind hooks.EventKind) hooks.Event {
	info := l.Tracked.Info()
	return hooks.Event{Kind: kind, Node: info.Node, ConnID: info.ID, Label: l.Label, Site: l.Site(), Took: l.For()}
}

// collected reclaims a lease whose owner was dropped without Release. A command that is still
// running on it ends first: it may have been the last use of the owner.
func (l *Lease) collected() {
	l.orphan.Store(true)
	if l.inFlight.Load() == 0 {
		l.reclaim()
	}
}

// reclaim ends a lease that nobody can release any more.
func (l *Lease) reclaim() {
	if !l.Held() || !l.orphan.CompareAndSwap(true, false) {
		return
	}
	if !l.reported.Swap(true) {
		l.leaked()
	}
	l.report(slog.LevelError, hooks.Leaked, "lifeguard: a lease was dropped without Release; its connection is closed")
	l.end(dropped)
}
