package redistest

// Action is what a Proxy does with a chunk of bytes. A cut here is an orderly
// close: what was forwarded arrives, and then the reader finds the end (EOF).
// For a reset see Proxy.CutAll.
type Action int

const (
	Forward     Action = iota // pass it on
	Drop                      // swallow it, and keep the connection
	CutBefore                 // cut without passing it on
	CutAfter                  // pass it on, then cut; a request's reply is lost
	HalfThenCut               // pass the first half of it on, then cut
)

func (a Action) String() string {
	switch a {
	case Forward:
		return "Forward"
	case Drop:
		return "Drop"
	case CutBefore:
		return "CutBefore"
	case CutAfter:
		return "CutAfter"
	case HalfThenCut:
		return "HalfThenCut"
	}
	return "unknown action"
}
