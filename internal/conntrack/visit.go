package conntrack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// visitKind says what a visit is for.
type visitKind uint8

const (
	visitReady   visitKind = iota // the handshake is over
	visitSweep                    // maintenance: carry out the connection's orders
	visitAcquire                  // a lease: take the connection if it is good
	visitAsk                      // ... and this one sends a PING, because the connection must be validated
	visitUndo                     // undo the transaction or the watches that were left open
	visitEnd                      // close the connection
	visitBound                    // ctx ends the handshake that follows
	visitAbandon                  // close the connection: its handshake has panicked
	visitWhose                    // reaches no connection: it identifies a client's own chain of hooks
)

// visit is one visit in progress, and the command that makes it. go-redis writes its token to the
// connection that it picks; the connection finds the visit by the token and registers itself in it.
type visit struct {
	kind     visitKind
	woken    bool // a real PING was sent
	apart    bool // of visitReady: the result of the handshake is known to maintenance's client only
	number   atomic.Uint32
	token    [tokenLen]byte
	cmd      *redis.StatusCmd
	conn     *Conn        // the connection that was visited
	why      hooks.Reason // of visitAcquire and visitAsk: why the connection must be validated; "" if it need not be
	holder   Holder
	bound    bool          // of visitAcquire: its ctx ends a handshake
	patience time.Duration // maximum wait for the reply to a real PING
	only     *Conn         // the only connection to get a PING, nil: any that is due

	came, cameTx uint64 // of visitWhose: the chains through which it came
}

// A visit on the wire: PING with the process's secret and the number of the visit.
const (
	secretLen = 32
	numberLen = 8
	tokenLen  = secretLen + numberLen
	visitLen  = 4 + 4 + 6 + 5 + tokenLen + 2 // see visitHead; at most 64, see Node.Install
)

var visitHead = func() []byte {
	var b [secretLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return fmt.Appendf(nil, "*2\r\n$4\r\nping\r\n$%d\r\n%s", tokenLen, hex.EncodeToString(b[:]))
}()

// places holds the visits that are being written, by number: from when go-redis asks for the bytes
// until the connection has got them, or the visit is over. Nothing waits during that moment, so a
// visit that waits for a connection has no place.
var places struct {
	last atomic.Uint32
	at   [1 << 12]atomic.Pointer[visit]
}

var errNoPlace = errors.New("lifeguard: too many visits at once")

// MarshalBinary is called by go-redis for the bytes of the argument.
func (v *visit) MarshalBinary() ([]byte, error) {
	v.leave()
	for range len(places.at) {
		n := places.last.Add(1)
		v.number.Store(n)
		if places.at[n%uint32(len(places.at))].CompareAndSwap(nil, v) {
			var b [numberLen / 2]byte
			binary.BigEndian.PutUint32(b[:], n)
			hex.Encode(v.token[secretLen:], b[:])
			return v.token[:], nil
		}
	}
	return nil, errNoPlace
}

// Hooks on go-redis's client itself see a visit as the argument of a ping. Printing it prints
// nothing: the token is for the connection alone.
func (v *visit) String() string                { return "" }
func (v *visit) GoString() string              { return `""` }
func (v *visit) Format(f fmt.State, verb rune) {}
func (v *visit) MarshalText() ([]byte, error)  { return nil, nil }
func (v *visit) MarshalJSON() ([]byte, error)  { return []byte(`""`), nil }

// leave gives up the place.
func (v *visit) leave() {
	places.at[v.number.Load()%uint32(len(places.at))].CompareAndSwap(v, nil)
}

var restingVisits = sync.Pool{New: func() any {
	v := &visit{}
	copy(v.token[:], visitHead[len(visitHead)-secretLen:])
	v.cmd = redis.NewStatusCmd(context.Background(), "ping", v)
	return v
}}

func newVisit(kind visitKind) *visit {
	v := restingVisits.Get().(*visit)
	v.kind, v.conn, v.woken, v.why, v.holder, v.patience, v.only, v.apart, v.bound = kind, nil, false, "", nil, 0, nil, false, false
	v.came, v.cameTx = 0, 0
	v.cmd.SetErr(nil)
	v.cmd.SetVal("")
	return v
}

func (v *visit) done() {
	v.leave()
	v.conn, v.holder, v.only = nil, nil, nil
	restingVisits.Put(v)
}

// visitIn finds the visit in b, nil if b is anything else. Only a complete, exact visit in one
// write counts.
func visitIn(b []byte) *visit {
	if !bytes.HasPrefix(b, visitHead) {
		return nil
	}
	var number [numberLen / 2]byte
	if _, err := hex.Decode(number[:], b[len(visitHead):len(visitHead)+numberLen]); err != nil {
		return nil
	}
	n := binary.BigEndian.Uint32(number[:])
	if v := places.at[n%uint32(len(places.at))].Load(); v != nil && v.number.Load() == n {
		return v
	}
	return nil
}

// visitOf finds the visit that a command is, nil if it is anything else.
func visitOf(cmd redis.Cmder) *visit {
	if args := cmd.Args(); len(args) == 2 {
		if v, ok := args[1].(*visit); ok {
			return v
		}
	}
	return nil
}

// visited decides about the connection that a visit has reached.
func (c *Conn) visited(v *visit, n int) (int, error) {
	v.conn = c
	v.leave()
	switch v.kind {
	case visitBound:
		c.change(fWrote|fOutstanding|fReadSet, fCanned)
		return n, nil
	case visitReady:
		if !c.unbind() {
			return 0, c.fail(OpWrite, net.ErrClosed)
		}
		c.scan.reset()
		c.scan.reauth = c.node.opt.StreamingCredentialsProvider != nil
		c.state.Store(0)
		c.change(fWrote|fOutstanding|fReadSet, fReady|fCanned)
		c.node.raw.Add(-1)
		c.shaken(!v.apart)
		if c.sentinel() {
			return n, nil
		}
		if c.node.resolves {
			c.node.reached(c.addr)
		}
		c.node.lastDial.Store(nil)
		c.node.maxClients.accepted()
		c.node.health.become(hooks.Healthy, nil)
		return n, nil
	case visitAbandon:
		c.closeFor(hooks.ReasonError, errAbandoned)
		_ = c.Close()
		return 0, refuse(hooks.ReasonError)
	case visitUndo:
		return c.undo(v, n)
	case visitAsk:
		return c.ask(v, v.why, n)
	}
	now := c.guard.at // a moment ago
	if c.guard.at = 0; now == 0 {
		now = c.node.t.now()
	}
	c.taken = now
	r := c.refusal(now)
	level, why := unpackOrder(c.order.Load())
	if r == "" && level == orderEvictIdle && v.kind == visitSweep {
		r = why
	}
	alive, pending := true, false
	// Unless go-redis's own check has just done it, or it is not needed, see justUsed.
	if !c.has(fChecked) && !(v.kind == visitAcquire && c.justUsed(now)) {
		alive, pending = c.peek()
	}
	if r == "" && !alive {
		r = hooks.ReasonError
	}
	if r != "" {
		c.closeFor(r, nil)
		return 0, refuse(r)
	}
	wake := pending || c.has(fPushSeen) || v.only == c || v.only == nil && (level == orderValidate || c.doubtful(now))
	if v.kind == visitAcquire && !wake {
		after := c.node.t.validateAfter.Load()
		wake = after >= 0 && now-c.lastUsed.Load() >= after
	}
	if !wake {
		c.change(fWrote|fOutstanding|fReadSet, fCanned)
		return n, nil
	}
	switch {
	case level == orderValidate && v.only == nil:
	case v.only == c || c.doubtful(now):
		why = hooks.ReasonSuspected
	default:
		why = hooks.ReasonHeartbeat
	}
	if v.kind == visitAcquire && !pending && !c.has(fPushSeen) { // otherwise it must not be answered here
		v.why = why
		c.change(fWrote|fOutstanding|fReadSet, fCanned)
		return n, nil
	}
	return c.ask(v, why, n)
}

// ask sends a real PING.
func (c *Conn) ask(v *visit, why hooks.Reason, n int) (int, error) {
	v.woken = true
	c.withdraw(orderValidate)
	c.waken(v.patience, why)
	if _, err := c.send(ping); err != nil {
		return 0, err
	}
	return n, nil
}

// undo sends the command that ends an open transaction or watches.
func (c *Conn) undo(v *visit, n int) (int, error) {
	cmd := unwatch
	if c.scan.state&command.InMulti != 0 {
		cmd = discard // ends the watches too
	}
	v.woken = true
	c.waken(0, hooks.ReasonError)
	if _, err := c.send(cmd); err != nil {
		return 0, err
	}
	c.scan.state &^= command.InMulti | command.Watching
	c.state.Store(uint32(c.scan.state))
	return n, nil
}

var (
	discard = []byte("*1\r\n$7\r\nDISCARD\r\n")
	unwatch = []byte("*1\r\n$7\r\nUNWATCH\r\n")
)

// Undo ends the transaction or the watches that were left on c, which conn
// holds: one round trip of at most Config.ValidateTimeout. After an error the
// connection must be ended.
func Undo(conn *redis.Conn, c *Conn) error {
	v := newVisit(visitUndo)
	defer v.done()
	if err := conn.Process(context.Background(), v.cmd); err != nil {
		return err
	}
	if v.conn != c || v.cmd.Val() != "OK" {
		return errUnrecognised
	}
	return nil
}

// Discard makes go-redis remove the connection c when conn, which holds it, is closed. No network
// traffic.
func Discard(conn *redis.Conn, c *Conn, r hooks.Reason) {
	c.Evict(r)
	v := newVisit(visitEnd)
	defer v.done()
	_ = conn.Process(context.Background(), v.cmd)
}

var (
	// ErrWouldWait is returned by visits that do not find a connection at once.
	ErrWouldWait = errors.New("lifeguard: no connection is free")

	errAbandoned = errors.New("lifeguard: OnConnect did not return: it has panicked")

	errUnrecognised = errors.New("lifeguard: a visit was not recognised: something between go-redis and the tracked connection changes what is written")
)

// check reports whether a visit that ended without an error did what it was for. Any complete reply
// to a real PING shows that the connection is alive, also an error reply (an ACL may forbid PING);
// QUEUED means that a transaction is open.
func (v *visit) check(err error) error {
	if err != nil && !(v.woken && isReply(err)) {
		return err
	}
	switch {
	case v.conn == nil:
		return errUnrecognised
	case v.cmd.Val() == "QUEUED":
		v.conn.Evict(hooks.ReasonSessionState)
		return refuse(hooks.ReasonSessionState)
	}
	return nil
}

func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
