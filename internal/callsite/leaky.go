package callsite

import (
	"sync"
	"sync/atomic"
)

// Leaky are the call sites at which a lease has leaked. A lookup costs one atomic load if
// there are none.
type Leaky struct {
	mu    sync.Mutex
	known atomic.Pointer[map[uintptr]struct{}] // never modified once it is set
}

func (s *Leaky) has(pc uintptr) bool {
	known := s.known.Load()
	if known == nil {
		return false
	}
	_, leaky := (*known)[pc]
	return leaky
}

// Add adds the site of a stack.
func (s *Leaky) Add(stack *Stack) {
	pc := stack.site[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has(pc) {
		return
	}
	all := map[uintptr]struct{}{pc: {}}
	if known := s.known.Load(); known != nil {
		for k := range *known {
			all[k] = struct{}{}
		}
	}
	s.known.Store(&all)
}
