package serverside

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A single key, so that on a cluster everything about the lock is in one slot.
const (
	extendScript  = `if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end return 0`
	releaseScript = `if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0`
)

// errNoCompare: neither EVAL nor WATCH can be used.
var errNoCompare = errors.New("neither EVAL nor WATCH can be used")

// lock is a key that holds our token for as long as we own the lock. Only one goroutine uses it.
type lock struct {
	rdb   Commander
	key   string
	ttl   time.Duration
	token string
	until time.Time // the lock is ours at least until then, by the monotonic clock
}

func newLock(rdb Commander, key string, ttl time.Duration) *lock {
	return &lock{rdb: rdb, key: key, ttl: ttl, token: rand.Text()}
}

// acquire takes the lock, or extends it if it is ours. false: somebody else has it.
func (l *lock) acquire(ctx context.Context) (bool, error) {
	start := time.Now()
	err := l.rdb.Do(ctx, "SET", l.key, l.token, "NX", "PX", l.ttl.Milliseconds()).Err()
	if err == nil {
		l.until = start.Add(l.ttl)
		return true, nil
	}
	if !errors.Is(err, redis.Nil) {
		return false, fail(ctx, "lock", l.key, err)
	}
	// The lock may be ours: from the last sweep, or from a SET whose reply was lost.
	ok, err := l.extend(ctx, l.ttl)
	if errors.Is(err, errNoCompare) {
		return false, nil // unknown: wait until it expires
	}
	return ok, err
}

// held reports whether somebody has the lock, without writing anything.
func (l *lock) held(ctx context.Context) (bool, error) {
	err := l.rdb.Do(ctx, "GET", l.key).Err()
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, redis.Nil), answered(err) && denied(err): // no lock, or this user may not read it
		return false, nil
	}
	return false, fail(ctx, "lock", l.key, err)
}

// extend makes the lock expire after d from now, if it is still ours.
func (l *lock) extend(ctx context.Context, d time.Duration) (bool, error) {
	start := time.Now()
	ok, err := l.ifOurs(ctx, extendScript, []any{d.Milliseconds()}, func(p redis.Pipeliner) {
		p.PExpire(ctx, l.key, d)
	})
	if ok {
		l.until = start.Add(d)
	}
	return ok, err
}

// release deletes the lock if it is still ours. If that fails, the lock expires by itself.
func (l *lock) release(ctx context.Context) error {
	_, err := l.ifOurs(ctx, releaseScript, nil, func(p redis.Pipeliner) { p.Del(ctx, l.key) })
	l.until = time.Time{}
	return err
}

// ifOurs acts only if the key holds our token: with a script, or with WATCH, GET and EXEC where
// scripts are denied.
func (l *lock) ifOurs(ctx context.Context, script string, args []any, do func(redis.Pipeliner)) (bool, error) {
	n, err := l.rdb.Do(ctx, append([]any{"EVAL", script, 1, l.key, l.token}, args...)...).Int()
	if err == nil {
		return n == 1, nil
	}
	if !answered(err) || !denied(err) {
		return false, fail(ctx, "lock", l.key, err)
	}
	w, ok := l.rdb.(watcher)
	if !ok {
		return false, &Error{Op: "lock", Node: l.key, Kind: ErrDenied, Err: errNoCompare}
	}
	ours := false
	err = w.Watch(ctx, func(tx *redis.Tx) error {
		have, err := tx.Get(ctx, l.key).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err != nil || have != l.token {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { do(p); return nil })
		ours = err == nil
		return err
	}, l.key)
	switch {
	case err == nil:
		return ours, nil
	case errors.Is(err, redis.TxFailedErr): // somebody changed the key meanwhile
		return false, nil
	case answered(err) && denied(err):
		return false, &Error{Op: "lock", Node: l.key, Kind: ErrDenied, Err: errors.Join(errNoCompare, err)}
	}
	return false, fail(ctx, "lock", l.key, err)
}

func answered(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}
