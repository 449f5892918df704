package managed

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// StackMode says how much of the call stack of an Acquire is kept. Leak reports and
// Leases always name its file and line.
type StackMode int

const (
	// StackAuto keeps file and line. At call sites that have leaked a lease before it does what
	// StackFull does.
	StackAuto StackMode = iota
	// StackFull keeps up to 24 frames and adds the lease to the runtime/pprof profile
	// "lifeguard.leases". That takes about as long as all the rest of Acquire.
	StackFull
	// StackSite keeps file and line only.
	StackSite
)

// callers is the call stack of an Acquire. Its frames are resolved only on demand: that is too slow
// for Acquire itself, and for an error that nobody prints.
type callers struct {
	site [1]uintptr // the innermost frame
	all  []uintptr  // the whole stack, nil where only the site was kept
}

const mostFrames = 24

// keep records the stack, skipping skip frames, of which this one is the second, as in
// runtime.Callers. It reports whether that is the whole stack.
func (c *callers) keep(skip int, mode StackMode, leaky *leakySites) bool {
	if mode != StackFull {
		runtime.Callers(skip, c.site[:])
		if mode == StackSite || !leaky.has(c.site[0]) {
			return false
		}
	}
	pcs := make([]uintptr, mostFrames)
	c.all = pcs[:runtime.Callers(skip, pcs)]
	c.site[0] = c.all[0]
	return true
}

// resolve looks up the recorded frames.
func (c *callers) resolve() (site, all string) {
	if c == nil || c.site[0] == 0 {
		return "", ""
	}
	pcs := c.all
	if pcs == nil {
		pcs = c.site[:]
	}
	var b strings.Builder
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			if site == "" {
				site = fmt.Sprintf("%s:%d", f.File, f.Line)
			}
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			return site, b.String()
		}
	}
}

// leakySites are the call sites at which a lease has leaked. A lookup costs one atomic load if
// there are none.
type leakySites struct {
	mu    sync.Mutex
	known atomic.Pointer[map[uintptr]struct{}] // never modified once it is set
}

func (s *leakySites) has(pc uintptr) bool {
	known := s.known.Load()
	if known == nil {
		return false
	}
	_, leaky := (*known)[pc]
	return leaky
}

func (s *leakySites) add(pc uintptr) {
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
