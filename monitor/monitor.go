package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"
)

// Monitor takes samples of a Source and reports them. It is safe for concurrent
// use; its methods may be called from its callbacks.
type Monitor struct {
	src   Source
	every time.Duration
	log   *slog.Logger

	onStats callbacks[Stats]
	onAlert callbacks[Alert]

	life    sync.Mutex // started and closed
	started bool
	closed  bool
	stop    chan struct{}
	done    chan struct{} // closed when the goroutine has ended

	sampling sync.Mutex // the Source is asked by one at a time
	book     book
	watch    *watcher
	past     history
}

// New makes a Monitor of a Source. It does nothing by itself, and starts no
// goroutine, until a callback is registered, a [Threshold] is given, or Start is
// called; Close it then. An error names the option that is not valid.
func New(src Source, opts ...Option) (*Monitor, error) {
	if v := reflect.ValueOf(src); src == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, errors.New("lifeguard/monitor: New: the Source is nil")
	}
	if c, ok := src.(interface{ validate() error }); ok {
		if err := c.validate(); err != nil {
			return nil, fmt.Errorf("lifeguard/monitor: New: %w", err)
		}
	}
	s := settings{every: DefaultInterval, log: slog.Default()}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("lifeguard/monitor: New: an option is nil")
		}
		if err := o.apply(&s); err != nil {
			return nil, err
		}
	}
	m := &Monitor{src: src, every: s.every, log: s.log, stop: make(chan struct{}), done: make(chan struct{})}
	m.watch = newWatcher(s.all())
	for _, fn := range s.onStats {
		m.OnStats(fn)
	}
	for _, fn := range s.onAlert {
		m.OnAlert(fn)
	}
	if len(s.thresholds) > 0 {
		m.Start()
	}
	return m, nil
}

// all are the user's thresholds, and the defaults that they do not replace.
func (s *settings) all() []Threshold {
	ts := s.thresholds
	if s.noDefaults {
		return ts
	}
	for _, d := range DefaultThresholds() {
		if !slices.ContainsFunc(s.thresholds, func(t Threshold) bool { return t.Name == d.Name }) {
			ts = append(ts, d)
		}
	}
	return ts
}

// Start takes samples from now on, even if nobody is to be told: so that peaks,
// Recent and Advice are of periods and not of the time between two calls of Stats,
// and so that alerts are logged. Calls after the first, and after Close, do nothing.
func (m *Monitor) Start() {
	m.life.Lock()
	defer m.life.Unlock()
	if m.started || m.closed {
		return
	}
	m.started = true
	go m.run()
}

// Close stops the Monitor's goroutines, and waits for them. Callbacks get nothing any
// more; one that is running is not waited for. Stats goes on working. Calls after
// the first do nothing. It returns nil.
func (m *Monitor) Close() error {
	m.life.Lock()
	first := !m.closed
	m.closed = true
	started := m.started
	m.life.Unlock()
	if first {
		close(m.stop)
		m.onStats.close()
		m.onAlert.close()
	}
	if started {
		<-m.done
	}
	return nil
}

// OnStats calls fn with a Stats every period, from the next one on, until remove is
// called. Calls of one fn follow one another, in order; if it is too slow, it misses
// some. It runs on a goroutine of its own: it delays nobody, and if it panics, that
// is logged, once, and it is called again next time. After remove has returned, only
// a call that was under way goes on. A nil fn is not registered, and that is logged.
func (m *Monitor) OnStats(fn func(Stats)) (remove func()) {
	return register(m, &m.onStats, &callback[Stats]{fn: fn, what: "OnStats", limit: maxPendingStats, log: m.log}, fn == nil)
}

// OnAlert calls fn with each Alert, under the terms of OnStats, but that an fn
// which is too slow gets them later; only beyond 256 waiting ones does it miss the
// oldest. While no fn is registered, alerts are logged.
func (m *Monitor) OnAlert(fn func(Alert)) (remove func()) {
	return register(m, &m.onAlert, &callback[Alert]{fn: fn, what: "OnAlert", limit: maxPendingAlerts, log: m.log}, fn == nil)
}

func register[T any](m *Monitor, cs *callbacks[T], c *callback[T], isNil bool) (remove func()) {
	if isNil {
		m.log.Error("lifeguard: a callback of the monitor is not registered", "callback", c.what, "err", errNilCallback)
		return func() {}
	}
	remove = cs.add(c)
	m.Start()
	return remove
}

// Stats returns the current numbers. Recent, Rates and peaks are those since the last
// sample at a period, so calling Stats takes nothing away from anybody. Where
// nothing runs (see New), the period is at least that of WithInterval, counted from
// one call to another.
func (m *Monitor) Stats() Stats {
	s, _ := m.sample(false)
	return s
}

// Alerts returns the alerts that are not over and that no other explains (see
// [Alert]), with the facts of the latest sample, the critical ones first.
func (m *Monitor) Alerts() []Alert {
	m.sampling.Lock()
	defer m.sampling.Unlock()
	return m.watch.active()
}

// run takes a sample every period.
func (m *Monitor) run() {
	defer close(m.done)
	m.sample(true) // what the first period begins with
	ticker := time.NewTicker(m.every)
	defer ticker.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-ticker.C:
			m.tick()
		}
	}
}

func (m *Monitor) tick() {
	stats, alerts := m.sample(true)
	listeners, watchers := m.onStats.all(), m.onAlert.all()
	select {
	case <-m.stop: // that is why nobody listens
		return
	default:
	}
	for _, c := range listeners {
		c.put(stats)
		c.check(stats.Time)
	}
	for _, a := range alerts {
		for _, c := range watchers {
			c.put(a)
		}
		if len(watchers) == 0 {
			a.log(m.log)
		}
	}
	for _, c := range watchers {
		c.check(stats.Time)
	}
}

// sample asks the Source. At the end of a period it is what the next one begins
// with, and thresholds are looked at.
func (m *Monitor) sample(period bool) (Stats, []Alert) {
	m.life.Lock()
	alone := !m.started || m.closed
	m.life.Unlock()
	m.sampling.Lock()
	defer m.sampling.Unlock()
	raw, failed := m.ask()
	now := time.Now()
	roll := period || alone && (m.book.began.IsZero() || now.Sub(m.book.began) >= m.every)
	stats := m.book.enter(raw, now, roll)
	m.past.note(&stats)
	if !period || failed || stats.Interval == 0 {
		return stats, nil
	}
	return stats, m.watch.look(&stats)
}

// ask asks the Source. If it panics, the sample has the counters of the one before,
// and no gauges.
func (m *Monitor) ask() (s *Sample, failed bool) {
	s = new(Sample)
	defer func() {
		if p := recover(); p != nil {
			s, failed = m.book.repeat(), true
			s.Gap(fmt.Sprintf("all gauges: the source panicked: %v", p), gauges()...)
		}
	}()
	m.src.Sample(s)
	return s, false
}
