package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/refusal"
)

// Publisher publishes the numbers of one Monitor. It is safe for concurrent use.
type Publisher struct {
	m   *monitor.Monitor
	rdb redis.UniversalClient
	c   *config
	id  string

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	now    chan chan error
	done   chan struct{}
	close  sync.Once
	closed error

	mu     sync.Mutex
	status Status

	// Used only by the goroutine.
	written    bool          // something may be in Redis
	rev        uint64        // of the latest publication
	acked      uint64        // of the latest publication known to be written; 0: none
	kept       time.Time     // when the index was last maintained; zero: not yet
	counted    uint64        // closed connections of ours that are in the fleet's sum
	unsure     uint64        // a publication that may have arrived; 0: none
	reported   uint64        // closed connections that it reported
	lost       bool          // publications of ours were lost: the index must be created anew
	longest    time.Duration // the longest LostAfter that the index ever had
	introduced time.Time     // when introduce succeeded; zero: it has not
	ahead      time.Time     // the server's clock then; zero: unknown
	seen       string        // our address as the server saw it then; "": unknown
	direct     bool          // the address belongs to one of our connections
	apart      bool          // MULTI is denied
	noInfo     bool          // INFO is denied
	dialed     uint64        // number of connections dialed when the servers were last queried for their run ids
	runIDs     map[string]string
}

// Status describes how publishing is going. It is a value.
type Status struct {
	Published uint64    `json:"published"`      // how often it succeeded
	Failed    uint64    `json:"failed"`         // how often it failed
	Last      time.Time `json:"last"`           // when it last succeeded; zero: never
	Err       error     `json:"-"`              // why it currently fails; nil: it does not
	Gaps      []string  `json:"gaps,omitempty"` // what the server does not allow us besides
}

// Publish starts to publish the Monitor's numbers, at once and then every period, on its own
// goroutine, until Close. It never delays the application: if Redis is unreachable, slow or full,
// or refuses the commands, that is counted (see [Publisher.Status]), logged once until it works
// again, and tried again a period later.
//
// rdb may be the client that the Monitor watches; but while its pool is exhausted nothing is
// published, and after [WithLostAfter] the instance counts as lost. A separate client with one
// connection avoids that; it needs [WithClientNames] if there is a [Members]. Several clients of one
// process are several instances. Errors are about the arguments: Redis is not contacted. Options:
// [WithName], [WithService], [WithHost], [WithInterval], [WithLostAfter], [WithRetention],
// [WithTimeout], [WithClientNames], [WithLogger].
func Publish(m *monitor.Monitor, rdb redis.UniversalClient, opts ...Option) (*Publisher, error) {
	if m == nil {
		return nil, errors.New("lifeguard/monitor/fleet: Publish: the Monitor is nil")
	}
	if err := checkClient(ofPublish, rdb); err != nil {
		return nil, err
	}
	c, err := configure(ofPublish, opts)
	if err != nil {
		return nil, err
	}
	p := &Publisher{m: m, rdb: rdb, c: c, id: strings.ToLower(rand.Text()), now: make(chan chan error), done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	go p.run()
	return p, nil
}

// ID returns the ID of this instance in [Fleet].Instances.
func (p *Publisher) ID() string { return p.id }

// Status returns how publishing is going.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Gaps = slices.Clone(s.Gaps)
	return s
}

// Now publishes once, in addition to the periods, and returns whether that succeeded. After Close
// it returns an error.
func (p *Publisher) Now(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case p.now <- reply:
	case <-p.ctx.Done():
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errClosed = errors.New("lifeguard/monitor/fleet: the Publisher is closed")

// Close stops publishing and removes the instance from the fleet. It waits at most [WithTimeout]
// for that. An error means that the removal may have failed: then the instance is listed as lost
// until its retention (WithRetention) is over. Call it before closing the client. Calls after the
// first do nothing, and return the same error.
func (p *Publisher) Close() error {
	p.close.Do(func() {
		p.cancel()
		t := time.NewTimer(p.c.timeout)
		defer t.Stop()
		select {
		case <-p.done: // p.closed is set
		case <-t.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.closed == nil {
				p.closed = fmt.Errorf("lifeguard/monitor/fleet: leaving fleet %q: no answer within %v", p.c.fleet, p.c.timeout)
			}
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *Publisher) run() {
	defer close(p.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.ctx.Done():
			p.leave()
			return
		case reply := <-p.now:
			reply <- p.publish()
		case <-timer.C:
			_ = p.publish()
		}
		timer.Reset(time.Duration((0.9 + 0.2*mathrand.Float64()) * float64(p.c.every)))
	}
}

// publish writes once, and records the result.
func (p *Publisher) publish() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.c.timeout)
	defer cancel()
	err := p.introduce(ctx)
	if err == nil {
		err = p.write(ctx)
	}
	if err != nil && p.ctx.Err() != nil {
		return errClosed // Close interrupted it: not a failure
	}
	err = refusal.Cause(p.rdb, err)
	p.mu.Lock()
	before, failures := p.status.Err, p.status.Failed
	p.status.Err = err
	if err == nil {
		p.status.Published++
		p.status.Last = time.Now().Round(0)
	} else {
		p.status.Failed++
	}
	p.mu.Unlock()
	switch {
	case err != nil && before == nil:
		p.c.log.Warn("lifeguard: cannot publish to the fleet", "fleet", p.c.fleet, "err", err)
	case err == nil && before != nil:
		p.c.log.Info("lifeguard: publishing to the fleet again", "fleet", p.c.fleet, "failures", failures)
	}
	return err
}
