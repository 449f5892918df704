package ecosystem_test

import (
	"fmt"
	"sync"
	"testing"
)

// oneHolder sees that a lock has one holder at a time. A lock that nobody may be
// able to unlock any more, because the outcome of a call is not known, is left
// behind: key names another one.
type oneHolder struct {
	mu     sync.Mutex
	number int
	held   map[string]bool
	times  int
}

func (o *oneHolder) key() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("lock:%d", o.number)
}

// next leaves the lock of that key behind.
func (o *oneHolder) next(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if key == fmt.Sprintf("lock:%d", o.number) {
		o.number++
	}
}

// hold is called by who was given the lock, and has to return before it is unlocked.
func (o *oneHolder) hold(t testing.TB, key string) {
	o.enter(t, key)
	defer o.leave(key)
}

func (o *oneHolder) enter(t testing.TB, key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held[key] {
		t.Errorf("%s has two holders", key)
	}
	if o.held == nil {
		o.held = map[string]bool{}
	}
	o.held[key] = true
	o.times++
}

func (o *oneHolder) leave(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, key)
}

func (o *oneHolder) check(t testing.TB) {
	if o.times == 0 {
		t.Error("nobody ever held a lock")
	}
}
