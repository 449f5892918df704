package lease

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Client is what the leases of all pools of a client share. Its exported fields are set before the
// first lease.
type Client struct {
	Tracker   *conntrack.Tracker
	Threshold time.Duration // a lease held for longer is reported as a leak; 0 or negative: never
	Stacks    callsite.Mode
	Closed    func() bool // whether the client was closed
	Log       callsite.Log

	leaky callsite.Leaky
}

// Pool leases the connections of one pool, and holds its leases, the oldest first.
type Pool struct {
	Client  *Client
	Node    *conntrack.Node
	Refused func(retry.Reason, error) // called when the node refused a command of a lease

	Hold  monitor.Histogram // how long leases were held
	Leaks atomic.Uint64

	mu          sync.Mutex
	first, last *Lease
	n           int
	reports     *time.Timer // runs only while leases are held
	reporting   bool
	finalizers  *time.Timer // runs only while there are leases without one
	finalizing  bool
}

func (p *Pool) add(l *Lease, owner any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.prev = p.last; l.prev != nil {
		l.prev.next = l
	} else {
		p.first = l
	}
	p.last = l
	p.n++
	p.scheduleReport(p.Client.Threshold)
	l.owner = owner
	p.scheduleFinalizers()
}

func (p *Pool) remove(l *Lease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		p.first = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		p.last = l.prev
	}
	l.prev, l.next, l.owner = nil, nil, nil
	p.n--
}

// Oldest returns up to n leases, those held for the longest.
func (p *Pool) Oldest(n int) []*Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	leases := make([]*Lease, 0, min(n, p.n))
	for l := p.first; l != nil && len(leases) < n; l = l.next {
		leases = append(leases, l)
	}
	return leases
}

// Len returns how many leases are held.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// Overdue returns how many leases are held for longer than the threshold.
func (p *Pool) Overdue() (n int) {
	if p.Client.Threshold <= 0 {
		return 0
	}
	now := p.Client.Tracker.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := p.first; l != nil && now.Sub(l.Start) >= p.Client.Threshold; l = l.next {
		n++ // the rest are younger
	}
	return n
}

// Close ends the leases of a client that was closed.
func (p *Pool) Close() {
	p.mu.Lock()
	for _, t := range []*time.Timer{p.reports, p.finalizers} {
		if t != nil {
			t.Stop()
		}
	}
	p.mu.Unlock()
	for _, l := range p.Oldest(math.MaxInt) {
		l.end(released)
	}
}
