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

// Monitor takes samples of a Source and reports them. It is safe for concurrent use; its callbacks
// may call its methods.
type Monitor struct {
	src   Source
	every time.Duration
	log   *slog.Logger

	onStats callbacks[Stats]
	onAlert callbacks[Alert]

	life    sync.Mutex // guards start and close
	started bool
	closed  bool
	stop    chan struct{}
	done    chan struct{} // closed when the goroutine has ended

	sampling sync.Mutex // held while the Source is queried, by one goroutine at a time
	book     book
	watch    *watcher
	past     history
}

// New makes a Monitor for a Source. It starts no goroutine and takes no samples until a callback is
// registered, a [Threshold] is given, or Start is called; from then on it must be closed. An
// invalid option is an error that names it.
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
	m.watch = newWatcher(s.all(), m.whatToDo)
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

// all returns the user's thresholds, and the defaults that they do not replace.
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

// Start takes samples from now on, even without callbacks: peaks, Recent and Advice then cover
// periods instead of the time between two calls of Stats, and alerts are logged. Calls after the
// first, and after Close, do nothing.
func (m *Monitor) Start() {
	m.life.Lock()
	defer m.life.Unlock()
	if m.started || m.closed {
		return
	}
	m.started = true
	go m.run()
}

// Close stops the Monitor's goroutines and waits for them. Callbacks are not called any more; a
// running callback is not waited for. Stats still works. Calls after the first do nothing. It
// returns nil.
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

// OnStats calls fn with a Stats every period, starting with the next one, until remove is called.
// Calls of one fn never overlap and are in order; if fn is too slow, it misses some. It runs on its
// own goroutine and delays nobody; a panic in it is logged, once, and it is called again next time.
// After remove has returned, fn is not called again; a call in progress goes on. A nil fn is not
// registered, which is logged.
func (m *Monitor) OnStats(fn func(Stats)) (remove func()) {
	return register(m, &m.onStats, newCallback(fn, "OnStats", maxPendingStats, m.log), fn == nil)
}

// OnAlert calls fn with each Alert, like OnStats; but if fn is too slow it gets alerts late, and
// only beyond 256 pending ones does it miss the oldest. While no fn is registered, alerts are
// logged.
func (m *Monitor) OnAlert(fn func(Alert)) (remove func()) {
	return register(m, &m.onAlert, newCallback(fn, "OnAlert", maxPendingAlerts, m.log), fn == nil)
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

// Stats returns the current numbers. Recent, Rates and peaks cover the time since the last periodic
// sample, so calling Stats takes nothing away from other readers. While no periodic samples are
// taken (see New), the period lasts at least as long as WithInterval says, from one call to
// another.
func (m *Monitor) Stats() Stats {
	s, _ := m.sample(false)
	return s
}

// Alerts returns the active alerts that no other explains (see [Alert]), with the facts of the
// latest sample, the critical ones first.
func (m *Monitor) Alerts() []Alert {
	m.sampling.Lock()
	defer m.sampling.Unlock()
	return m.watch.active()
}

// run takes a sample every period.
func (m *Monitor) run() {
	defer close(m.done)
	m.sample(true) // the base of the first period
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
		c.Put(stats)
		c.check(stats.Time)
	}
	for _, a := range alerts {
		for _, c := range watchers {
			c.Put(a)
		}
		if len(watchers) == 0 {
			a.log(m.log)
		}
	}
	for _, c := range watchers {
		c.check(stats.Time)
	}
}

// sample queries the Source. A sample at the end of a period becomes the base of the next one, and
// thresholds are checked.
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
	return stats, m.watch.check(&stats)
}

// ask queries the Source. If the Source panics, the sample has the previous counters, and no
// gauges.
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
