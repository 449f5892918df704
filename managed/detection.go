package managed

import "time"

// FailureDetection configures how half-open connections are detected: those that are dead although
// nobody closed them, because of a cut cable or a firewall that dropped their state, for example. A
// late reply alone is never evidence, for any command. The zero value is the default.
type FailureDetection struct {
	// Off disables the detection: each connection then fails separately, when its caller's timeout
	// ends.
	Off bool
	// After is how long a reply may take before its connection is compared with others. Default
	// 500 ms. Negative: only after a caller's own timeout.
	After time.Duration
	// Patience is how long an idle connection may take to answer a PING, and the
	// new one that it is compared with for its dial and for each reply. Default 300 ms.
	Patience time.Duration
}

func (p FailureDetection) validate() error {
	if p.Patience < 0 {
		return bad("WithFailureDetection", p.Patience, "Patience must not be negative")
	}
	return nil
}

func (p FailureDetection) filled() FailureDetection {
	if p.After == 0 {
		p.After = 500 * time.Millisecond
	}
	if p.Patience == 0 {
		p.Patience = 300 * time.Millisecond
	}
	return p
}
