package serverside

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Defaults of the lock.
const (
	DefaultLockKey = "lifeguard:{reaper}:lock"
	DefaultLockTTL = 30 * time.Second
)

// Reaper closes connections that are too old or idle for too long, from the
// server's side. Make one with [NewReaper]. It is safe for concurrent use; sweeps
// of one Reaper wait for each other.
type Reaper struct {
	rdb     Commander
	policy  Policy
	match   *matcher
	log     *slog.Logger
	onKill  func(Kill)
	onSweep func(Report, error)
	lockKey string // "" for no lock
	lockTTL time.Duration

	turn chan struct{} // holds one token: whoever takes it may sweep
}

// Option is an option of NewReaper.
type Option func(*Reaper) error

// WithLock sets the key and the time to live of the lock that lets only one reaper work at a time.
// Reapers with different keys do not affect each other. If a reaper dies, the others wait for ttl
// (after a sweep of Run: for up to 1.2 periods more). The lock is extended and released by a
// script; where EVAL is denied, by WATCH, GET and EXEC; where both are denied, it is not extended
// and expires by itself, so that a sweep takes ttl at most, and the next one begins after that. It
// is as reliable as a lock in a single Redis can be: after a failover two reapers may work for a
// while, which does little harm (see WithoutLock). Default: DefaultLockKey and DefaultLockTTL. An
// empty key, or a ttl under a second, is an error.
func WithLock(key string, ttl time.Duration) Option {
	return func(r *Reaper) error {
		if key == "" {
			return bad("WithLock", key, "the key is empty")
		}
		if ttl < time.Second {
			return bad("WithLock", ttl, "the time to live is under a second")
		}
		r.lockKey, r.lockTTL = key, ttl
		return nil
	}
}

// WithoutLock makes the reaper work without a lock. Several at once do no harm, except that
// together they close more clients per second than each may.
func WithoutLock() Option {
	return func(r *Reaper) error { r.lockKey = ""; return nil }
}

// WithKillHandler calls fn for every client that was killed, or would have been in a dry run. It is
// called on the sweep's goroutine, one call at a time: while it blocks, nothing is killed. A panic
// in it is logged and has no other effect. nil: none.
func WithKillHandler(fn func(Kill)) Option {
	return func(r *Reaper) error {
		r.onKill = fn
		return nil
	}
}

// WithSweepHandler calls fn with the result of each sweep, as Once returns it, including the sweeps
// of Run. It is called like the function of WithKillHandler. nil: none.
func WithSweepHandler(fn func(Report, error)) Option {
	return func(r *Reaper) error {
		r.onSweep = fn
		return nil
	}
}

// WithLogger sets the logger: every kill at level info, failures at level warn. Default:
// slog.Default(). nil: the default; for no logs pass slog.DiscardHandler.
func WithLogger(l *slog.Logger) Option {
	return func(r *Reaper) error {
		if l != nil {
			r.log = l
		}
		return nil
	}
}

// NewReaper makes a Reaper without contacting the server. An invalid policy or option is an error
// that names it.
func NewReaper(rdb Commander, p Policy, opts ...Option) (*Reaper, error) {
	if err := checkClient(rdb); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Type == "" {
		p.Type = TypeNormal
	}
	if p.PerSecond == 0 {
		p.PerSecond = DefaultPerSecond
	}
	m, err := p.filter().compile("Policy")
	if err != nil {
		return nil, err
	}
	r := &Reaper{
		rdb: rdb, policy: p, match: m, log: slog.Default(),
		lockKey: DefaultLockKey, lockTTL: DefaultLockTTL, turn: make(chan struct{}, 1),
	}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("lifeguard/serverside: an option is nil")
		}
		if err := o(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Policy returns the policy with the defaults filled in.
func (r *Reaper) Policy() Policy { return r.policy }

var errUnmade = errors.New("lifeguard/serverside: this Reaper was not made by NewReaper")

// Once makes one sweep and reports what it did. While another reaper has the lock it does nothing,
// and Report.Busy is set. The report is correct also when there is an error; a failure on one node
// does not stop the sweep of the others. See the sentinels for the possible errors; lines that
// could not be parsed are reported in a *[MalformedError], and their clients are left alone. The
// lock is released at the end.
func (r *Reaper) Once(ctx context.Context) (Report, error) {
	if r == nil || r.rdb == nil {
		return Report{}, errUnmade
	}
	if err := r.take(ctx); err != nil {
		return Report{}, err
	}
	defer r.give()
	l := r.newLock()
	rep, err := r.once(ctx, l)
	r.release(ctx, l)
	return rep, err
}

// Run makes sweeps until ctx ends, and returns ctx.Err(). The time between two sweeps is every, 10
// % more or less; the first one starts within a tenth of every. Of several reapers with the same
// lock, one makes all sweeps, and when it ends another one takes over: a fleet makes one sweep per
// period. Failures are logged, passed to the function of WithSweepHandler, and do not end Run. Run
// starts no goroutine of its own. every must be positive.
func (r *Reaper) Run(ctx context.Context, every time.Duration) error {
	if r == nil || r.rdb == nil {
		return errUnmade
	}
	if every <= 0 {
		return bad("every", every, "must be positive")
	}
	l := r.newLock()
	defer r.release(ctx, l)
	wait := time.Duration(rand.Float64() * 0.1 * float64(every))
	for {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		if err := r.take(ctx); err != nil {
			return err
		}
		rep, err := r.once(ctx, l)
		_, torn := err.(*MalformedError) // the other reapers could not parse it either
		switch {
		case l == nil || rep.Busy:
		case err == nil || torn:
			// Keep the lock, so that nobody else sweeps before our next sweep.
			_, err := l.extend(ctx, every+every/5+r.lockTTL)
			if err != nil && ctx.Err() == nil && !errors.Is(err, errNoCompare) {
				r.log.WarnContext(ctx, "lifeguard/serverside: the lock could not be kept", "error", err)
			}
		default:
			r.release(ctx, l) // another reaper may succeed
		}
		r.give()
		wait = time.Duration((0.9 + 0.2*rand.Float64()) * float64(every))
	}
}

// once makes a sweep and reports it.
func (r *Reaper) once(ctx context.Context, l *lock) (Report, error) {
	rep, err := r.sweep(ctx, l)
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "lifeguard/serverside: a sweep was not complete", "error", err, "report", rep.String())
	}
	if r.onSweep != nil {
		r.guard(ctx, "WithSweepHandler", func() { r.onSweep(rep, err) })
	}
	return rep, err
}

func (r *Reaper) newLock() *lock {
	if r.lockKey == "" || r.policy.DryRun { // a dry run only checks whether it is held
		return nil
	}
	return newLock(r.rdb, r.lockKey, r.lockTTL)
}

// release releases the lock, also when ctx has ended.
func (r *Reaper) release(ctx context.Context, l *lock) {
	if l == nil || l.until.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := l.release(ctx); err != nil && !errors.Is(err, errNoCompare) {
		r.log.WarnContext(ctx, "lifeguard/serverside: the lock is left to expire", "error", err)
	}
}

func (r *Reaper) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Reaper) give() { <-r.turn }

// guard runs a callback; a panic in it is logged.
func (r *Reaper) guard(ctx context.Context, what string, fn func()) {
	defer func() {
		if v := recover(); v != nil {
			r.log.ErrorContext(ctx, "lifeguard/serverside: "+what+" panicked", "panic", v)
		}
	}()
	fn()
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
