package conntrack

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// pushDrainWait is how long go-redis waits for the rest of a push frame (50 ms),
// and a little more.
const pushDrainWait = 60 * time.Millisecond

// Read returns a reply of the server, or the reply to a visit. Implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.has(slowRead) {
		if n, err := c.beforeRead(b); n > 0 || err != nil {
			return n, err
		}
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.received(b[:n], len(b))
	}
	if err != nil {
		err = c.readFailed(err)
	}
	return n, err
}

// received looks at what has been read; room is the size of the buffer that it was read into. It is
// not inlined, to keep the stack frame of Read small; see Hook.Process of package retry.
//
//go:noinline
func (c *Conn) received(b []byte, room int) {
	c.in.Add(uint64(len(b)))
	c.tail = b[len(b)-1]
	fl := c.flags.Load()
	if fl&fRead == 0 {
		c.set(fRead)
		if c.pool.CompareAndSwap(0, uint32(c.node.poolOf(c.addr, room))) && c.sentinel() {
			c.seat() // those do not count
		}
		if fl&fReady == 0 {
			c.refuses(b)
		}
	}
	if fl&(fAwaiting|fPinging) != 0 {
		c.heard.Store(c.node.t.now())
		if c.node.Health() == hooks.Degraded {
			c.node.SetAnswering()
		}
		c.flags.And(^(fAwaiting | fPinging))
	}
	if fl&fPushSeen == 0 && startsPush(b) {
		c.set(fPushSeen)
		c.node.pushes.Add(1)
		fl |= fPushSeen
	}
	if fl&fPushSeen != 0 && bytes.Contains(b, moving) {
		c.node.movingAt.Store(c.node.t.now())
	}
	// A single reply says so at its start: what is large, and all after its first
	// read, need not be searched.
	if fl&fReady != 0 && (b[0] == '-' || b[0] == '>' || fl&(fMany|fPushSeen) != 0) && saysReadOnly(b) && !c.sentinel() {
		c.Evict(hooks.ReasonReadOnly)
	}
}

func (c *Conn) readFailed(err error) error {
	if err == io.EOF && c.tail != '\n' && c.has(fRead) && !c.has(fAwaiting) {
		err = io.ErrUnexpectedEOF // go-redis finds that out only from a bare EOF
	}
	return c.fail(OpRead, err)
}

func (c *Conn) beforeRead(b []byte) (int, error) {
	fl := c.flags.Load()
	switch {
	case fl&fInterrupted != 0:
		return 0, c.fail(OpRead, net.ErrClosed)
	case fl&fCanned != 0:
		c.unset(fCanned)
		if len(b) < len(pong) {
			c.closeFor(hooks.ReasonError, errDesync)
			return 0, refuse(hooks.ReasonError)
		}
		c.set(fAnswered)
		return copy(b, pong), nil
	case fl&fAnswered != 0: // somebody expects more than the one reply
		c.closeFor(hooks.ReasonError, errDesync)
		return 0, refuse(hooks.ReasonError)
	}
	if fl&fReadStale != 0 {
		c.unset(fReadStale)
		c.reads.forget()
		return 0, c.Conn.SetReadDeadline(time.Time{})
	}
	return 0, nil
}

// isFull recognises the first reply of a server that accepts no new connection: it has reached its
// maxclients, or our password is no longer valid.
func isFull(b []byte) bool {
	return isMaxClients(b) || bytes.HasPrefix(b, []byte("-WRONGPASS")) || bytes.HasPrefix(b, []byte("-NOAUTH"))
}

// refused returns the error for such a reply.
func refused(b []byte) error {
	line, _, _ := strings.Cut(string(b), "\r\n")
	return errors.New(line)
}

// saysReadOnly recognises a replica's reply to a write; Redis 6 has it in the middle of the error
// of a script. go-redis closes the connection after it only when a command was sent alone, although
// the name that was dialed may lead to another server by now. A value that looks like this reply
// only costs a new connection.
func saysReadOnly(b []byte) bool {
	i := bytes.Index(b, readOnlyCode)
	if i < 1 || b[i-1] != '-' {
		return false
	}
	b = b[i+len(readOnlyCode):]
	return bytes.HasPrefix(b, readOnlyWrite) || bytes.HasPrefix(b, readOnlyScript)
}

var (
	readOnlyCode   = []byte("READONLY ") // without its dash, which is frequent in values
	readOnlyWrite  = []byte("You can't write against a read only replica")
	readOnlyScript = []byte("Can not run script with write flag on readonly replica")
)

// startsPush reports whether b holds the start of a RESP3 push frame. A value that looks like one
// only costs a real PING.
func startsPush(b []byte) bool {
	for off := 0; ; {
		i := bytes.IndexByte(b[off:], '>')
		if i < 0 {
			return false
		}
		if i += off; i == 0 || b[i-1] == '\n' {
			return true
		}
		off = i + 1
	}
}
