package conntrack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
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
	visitBound                    // says whose handshake follows, and which ctx ends it
	visitAbandon                  // close the connection: its handshake has panicked
	visitWhose                    // reaches no connection: it identifies a client's own chain of hooks
)

// visit is one visit in progress, and the command that makes it. go-redis writes its token to the
// connection that it picks; the connection finds the visit by the token and registers itself in it.
type visit struct {
	kind     visitKind
	pinged   bool // a real PING was sent
	apart    bool // of visitReady: the result of the handshake is known to maintenance's client only
	number   atomic.Uint32
	token    [tokenLen]byte
	cmd      *redis.StatusCmd
	conn     *Conn        // the connection that was visited
	why      hooks.Reason // of visitAcquire and visitAsk: why the connection must be validated; "" if it need not be
	holder   Holder
	bound    bool            // of visitAcquire: its ctx ends a handshake
	patience time.Duration   // maximum wait for the reply to a real PING
	turn     *firstHandshake // of visitBound: the one that its handshake may be, or has to wait for
	only     *Conn           // the only connection to get a PING, nil: any that is due

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
	v.kind, v.conn, v.pinged, v.why, v.holder, v.patience, v.only, v.turn, v.apart, v.bound = kind, nil, false, "", nil, 0, nil, nil, false, false
	v.came, v.cameTx = 0, 0
	v.cmd.SetErr(nil)
	v.cmd.SetVal("")
	return v
}

func (v *visit) done() {
	v.leave()
	v.conn, v.holder, v.only, v.turn = nil, nil, nil, nil
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
	if err != nil && !(v.pinged && isReply(err)) {
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
