package managed

import "github.com/lifeguard-redis/lifeguard/internal/callsite"

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

// The values are those of package callsite: each line compiles only if the two are equal.
var (
	_ = [1]struct{}{}[int(StackAuto)-int(callsite.Auto)]
	_ = [1]struct{}{}[int(StackFull)-int(callsite.Full)]
	_ = [1]struct{}{}[int(StackSite)-int(callsite.Site)]
)
