package conntrack

import "time"

// Unacked is what the kernel reports about bytes that were written to a connection and that the
// other side has not acknowledged. A server that is slow to reply still acknowledges, and so does
// one that does not read (its window is closed): it answers each window probe. The zero value means
// that there are no such bytes.
type Unacked struct {
	Pending bool          // there are unacknowledged bytes, or bytes that could not be sent yet
	Tries   int           // how often they were sent again, or the window was probed, without an answer
	Silence time.Duration // since the last acknowledgement of any bytes
	RTT     time.Duration // a smoothed round trip
}

// Unacked queries the kernel, also below TLS. ok is false if that is impossible: not on Linux, or
// no TCP socket. Safe for concurrent use.
func (c *Conn) Unacked() (u Unacked, ok bool) {
	if c.raw == nil {
		return Unacked{}, false
	}
	return unacked(c.raw)
}
