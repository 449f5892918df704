package managed

import "time"

// FailureDetection says what is done to find out whether a connection is half-open:
// dead although nobody closed it, as behind a cut cable or a firewall that has forgotten it.
// That a reply is late is no evidence, for no command. The zero value is the default.
type FailureDetection struct {
	// Off switches it off: each connection fails on its own, when its caller's time
	// is over.
	Off bool
	// After is how long a reply may be waited for before evidence is looked for.
	// Default 500 ms. Negative: only the caller's own timeout tells.
	After time.Duration
	// Patience is how long an idle connection, and the fresh one it is compared
	// with, may take to answer a PING. Default 300 ms.
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
