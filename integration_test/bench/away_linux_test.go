package bench_test

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A pauser sleeps precisely. In an idle process a time.Sleep below 1 ms takes 1 ms, because Go's
// network poller waits in whole milliseconds, while a reply that arrives wakes it at once: a delay
// made by time.Sleep would slow the client with the fewest connections.
type pauser struct {
	fd    int
	timer *os.File // of it
}

func newPauser() (*pauser, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &pauser{fd, os.NewFile(uintptr(fd), "timerfd")}, nil
}

func (p *pauser) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(p.fd, 0, &spec, nil); err != nil {
		return err
	}
	var expirations [8]byte
	_, err := p.timer.Read(expirations[:])
	return err
}

func (p *pauser) close() { _ = p.timer.Close() }
