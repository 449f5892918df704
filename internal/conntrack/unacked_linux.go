package conntrack

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacked reads TCP_INFO, see tcp(7) and tcp_info of linux/tcp.h.
func unacked(raw syscall.RawConn) (u Unacked, ok bool) {
	err := raw.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		u = Unacked{
			Pending: i.Unacked > 0 || i.Notsent_bytes > 0,
			Tries:   int(i.Retransmits) + int(i.Probes),
			Silence: time.Duration(i.Last_ack_recv) * time.Millisecond,
			RTT:     time.Duration(i.Rtt) * time.Microsecond,
		}
		ok = true
	})
	return u, ok && err == nil
}
