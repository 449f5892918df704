package callsite

import (
	"fmt"
	"runtime"
	"strings"
)

// Mode says how much of a stack is kept.
type Mode int

const (
	Auto Mode = iota // all of it at sites that have leaked, else as Site
	Full             // all of it
	Site             // the innermost frame
)

// Stack is the call stack of an Acquire. Its frames are resolved only on demand: that is too slow
// for Acquire itself, and for an error that nobody prints.
type Stack struct {
	site [1]uintptr // the innermost frame
	all  []uintptr  // the whole stack, nil where only the site was kept
}

const mostFrames = 24

// Innermost is for runtime.Callers to put the innermost frame into, before Keep. Call that where few
// frames are to be skipped: each takes about 0.1 µs.
func (s *Stack) Innermost() []uintptr { return s.site[:] }

// Keep records the whole stack if it is to be kept, skipping skip frames, of which this one is the
// second, as in runtime.Callers. It reports whether it did.
func (s *Stack) Keep(skip int, mode Mode, leaky *Leaky) bool {
	if mode == Site || mode == Auto && !leaky.has(s.site[0]) {
		return false
	}
	pcs := make([]uintptr, mostFrames)
	s.all = pcs[:runtime.Callers(skip, pcs)]
	return true
}

// Resolve returns file and line of the innermost frame, and all recorded frames. Of a nil *Stack they
// are empty.
func (s *Stack) Resolve() (site, all string) {
	if s == nil || s.site[0] == 0 {
		return "", ""
	}
	pcs := s.all
	if pcs == nil {
		pcs = s.site[:]
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
