//go:build unix

package sim

import (
	"net"
	"os"
	"sync"
	"time"
)

const (
	window  = 64 << 10 // bytes that may be under way in one direction: the socket buffers of both ends
	segment = 1460
)

// stream is one direction of a connection: what was written and not read yet.
type stream struct {
	mu      sync.Mutex    // never held while waiting, see the package comment
	changed chan struct{} // closed and replaced when whoever waits has to look again
	queue   []piece
	held    int       // bytes in queue
	line    time.Time // when the sender's line is free again
	readBy  time.Time // deadlines, zero for none
	writeBy time.Time
	frozen  time.Time // the reader takes nothing before this time: a zero window, once the buffers are full
	lost    bool      // nothing arrives any more, not even the end
	end     error     // what the reader gets after the last byte, nil while open
	endAt   time.Time
	broken  error // what the writer gets, nil while open
	gone    bool  // the reader closed its own end
}

type piece struct {
	b  []byte
	at time.Time // when it arrives
}

func newStream() *stream { return &stream{changed: make(chan struct{})} }

// set changes the stream and wakes whoever waits for it.
func (s *stream) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait returns when ch is closed or at the first of the times that are not zero.
func wait(ch <-chan struct{}, times ...time.Time) {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if first.IsZero() {
		<-ch
		return
	}
	timer := time.NewTimer(time.Until(first))
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	}
}

// passed reports whether a time has come. Zero never does.
func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (s *stream) read(b []byte) (int, error) {
	for {
		s.mu.Lock()
		arrives, ch, by, now := time.Time{}, s.changed, s.readBy, time.Now()
		switch {
		case s.gone:
			s.mu.Unlock()
			return 0, net.ErrClosed
		case passed(by):
			s.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case s.lost:
		case now.Before(s.frozen):
			arrives = s.frozen
		case len(s.queue) > 0 && !s.queue[0].at.After(now):
			n := copy(b, s.queue[0].b)
			if s.queue[0].b = s.queue[0].b[n:]; len(s.queue[0].b) == 0 {
				s.queue = s.queue[1:]
			}
			s.mu.Unlock()
			s.set(func() { s.held -= n })
			return n, nil
		case len(s.queue) > 0:
			arrives = s.queue[0].at
		case s.end != nil && !s.endAt.After(now):
			defer s.mu.Unlock()
			return 0, s.end
		case s.end != nil:
			arrives = s.endAt
		}
		s.mu.Unlock()
		wait(ch, by, arrives)
	}
}

func (s *stream) write(b []byte, latency time.Duration, perSecond int) (n int, err error) {
	for len(b) > 0 {
		s.mu.Lock()
		ch, by, room := s.changed, s.writeBy, window-s.held
		switch {
		case s.broken != nil:
			err = s.broken
		case passed(by):
			err = os.ErrDeadlineExceeded
		}
		s.mu.Unlock()
		if err != nil {
			return n, err
		}
		if room <= 0 {
			wait(ch, by)
			continue
		}
		part := b[:min(len(b), room, segment)]
		s.set(func() {
			if now := time.Now(); s.line.Before(now) {
				s.line = now
			}
			if perSecond > 0 {
				s.line = s.line.Add(time.Duration(len(part)) * time.Second / time.Duration(perSecond))
			}
			s.queue = append(s.queue, piece{append([]byte(nil), part...), s.line.Add(latency)})
			s.held += len(part)
		})
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}

// finish ends the stream after what is under way; the writer fails from now on.
func (s *stream) finish(end, broken error, latency time.Duration) {
	s.set(func() {
		if s.end == nil {
			s.end, s.endAt = end, time.Now().Add(latency)
		}
		if s.broken == nil {
			s.broken = broken
		}
	})
}

// ended reports whether the reader would find the end next.
func (s *stream) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.lost && len(s.queue) == 0 && s.end != nil && passed(s.endAt)
}
