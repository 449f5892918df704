package conntrack_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// The tests of the contract_*_test.go files pin what lifeguard relies on in
// go-redis. They run on plain go-redis clients. One that fails after an upgrade
// says which part of lifeguard has to change with it.

// This pair is the only "taken from idle" signal there is.
func TestContractACheckoutBeginsWithSetDeadlineZeroAndSyscallConn(t *testing.T) {
	s := redistest.Start(t)
	c, rs := bare(t, s.Options())
	if err := c.Ping(bg).Err(); err != nil {
		t.Fatal(err)
	}
	r := rs.list()[0]
	if early := r.take(); count(early, "SetDeadline(zero)") > 0 {
		t.Errorf("go-redis calls SetDeadline(zero) on a connection that it has just dialed (%v): lifeguard's guard would take that for a checkout", names(early))
	}
	for range 3 {
		if err := c.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		calls := r.take()
		if len(calls) < 2 || calls[0].String() != "SetDeadline(zero)" || calls[1].name != "SyscallConn" {
			t.Fatalf("go-redis no longer begins a checkout with SetDeadline(zero) and SyscallConn (%v): the checkout guard never runs", names(calls))
		}
		if n := count(calls, "SetDeadline(zero)"); n != 1 {
			t.Errorf("go-redis calls SetDeadline(zero) %d times for one command (%v): the guard takes every one for a checkout", n, names(calls))
		}
	}
}

func TestContractNothingButACheckoutCallsSetDeadline(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		opt := s.Options()
		opt.Protocol = protocol
		c, rs := bare(t, opt)
		conn := c.Conn()
		defer conn.Close()
		if err := conn.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		r := rs.list()[0]
		r.take()
		conn.Set(bg, "a", "b", 0)
		conn.Pipelined(bg, func(p redis.Pipeliner) error { p.Get(bg, "a"); p.Get(bg, "a"); return nil })
		conn.TxPipelined(bg, func(p redis.Pipeliner) error { p.Get(bg, "a"); return nil })
		conn.BLPop(bg, time.Second, "nolist")
		if calls := r.take(); count(calls, "SetDeadline")+count(calls, "SetDeadline(zero)") > 0 {
			t.Errorf("RESP%d: go-redis calls SetDeadline on a connection in use (%v): the tracked connection takes it for a checkout and forgets that a reply is outstanding", protocol, names(calls))
		}

		ps := c.Subscribe(bg, "news")
		defer ps.Close()
		if _, err := ps.Receive(bg); err != nil {
			t.Fatal(err)
		}
		_ = ps.Ping(bg)
		_, _ = ps.ReceiveTimeout(bg, 50*time.Millisecond)
		sub := rs.list()[len(rs.list())-1]
		if calls := sub.take(); count(calls, "SetDeadline")+count(calls, "SetDeadline(zero)") > 0 {
			t.Errorf("RESP%d: go-redis calls SetDeadline on a pub/sub connection (%v): it would be guarded like a pooled one", protocol, names(calls))
		}
	}
}

// The deadlines of a command replace those that the checkout cleared, so the
// tracked connection does not pass SetDeadline(zero) on.
func TestContractACommandSetsItsOwnDeadlines(t *testing.T) {
	s := redistest.Start(t)
	c, rs := bare(t, s.Options())
	c.Ping(bg)
	r := rs.list()[0]
	r.take()
	c.Ping(bg)
	got := names(r.take())
	if len(got) >= 2 {
		got = got[2:] // the checkout
	}
	var order []string
	for _, n := range got {
		if n == "SetWriteDeadline" || n == "Write" || n == "SetReadDeadline" || n == "Read" {
			order = append(order, n)
		}
	}
	order = slices.Compact(order)
	if want := []string{"SetWriteDeadline", "Write", "SetReadDeadline", "Read"}; !slices.Equal(order, want) {
		t.Errorf("go-redis runs a command as %v instead of %v: the tracked connection's deadlines and its knowledge of outstanding replies rest on that order", got, want)
	}
}

func TestContractAnErrorOfSyscallConnAtACheckoutVetoesTheConnection(t *testing.T) {
	s := redistest.Start(t)
	c, rs := bare(t, s.Options())
	c.Ping(bg)
	first := rs.list()[0]
	first.on(func(x call) error {
		if x.name == "SyscallConn" {
			return errors.New("veto")
		}
		return nil
	})
	first.take()
	if err := c.Ping(bg).Err(); err != nil {
		t.Errorf("a veto at a checkout reaches the caller (%v): it can no longer be used to end connections unnoticed", err)
	}
	calls := first.take()
	if count(calls, "Write") > 0 {
		t.Error("go-redis uses a connection whose SyscallConn failed at its checkout: the guard refuses nothing any more")
	}
	if count(calls, "Close") != 1 {
		t.Errorf("go-redis closed a vetoed connection %d times: max age at checkout rests on its closing it once", count(calls, "Close"))
	}
	if n := len(rs.list()); n != 2 {
		t.Errorf("%d dials, want 2", n)
	}
	if st := c.PoolStats(); st.TotalConns != 1 {
		t.Errorf("after a veto the pool counts %d connections, want 1: its books are wrong", st.TotalConns)
	}
}

func TestContractWithoutSyscallConnGoRedisDoesNotSeeADeadPeer(t *testing.T) {
	s := redistest.Start(t)
	for _, hide := range []bool{false, true} {
		rs := &recorders{hide: hide}
		c := bareWith(t, s.Options(), rs)
		if err := c.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		s.KillClients(t)
		err := c.Ping(bg).Err()
		if !hide && err != nil {
			t.Errorf("go-redis no longer notices through SyscallConn that a peer has closed (%v): the guard, which forwards it, protects nobody", err)
		}
		if hide && err == nil {
			t.Error("go-redis notices a dead peer without SyscallConn: the tracked connection need not forward it any more")
		}
	}
}

// With client-side caching a direct syscall.Conn counts as unbuffered.
func TestContractTheCacheTakesASyscallConnForUnbuffered(t *testing.T) {
	s := redistest.Start(t)
	for _, hide := range []bool{false, true} {
		opt := s.Options()
		opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{DrainInterval: time.Millisecond}
		rs := &recorders{hide: hide}
		c := bareWith(t, opt, rs)
		if err := c.Get(bg, "k").Err(); err != redis.Nil {
			t.Fatal(err)
		}
		r := rs.list()[0]
		r.take()
		reads, looks := 0, 0
		redistest.Eventually(t, "the drainer of the client-side cache looks at the idle connection", soon, func() bool {
			calls := r.take()
			reads += count(calls, "Read")
			looks += count(calls, "SyscallConn")
			return hide && reads > 0 || !hide && looks >= 3
		})
		if !hide && reads > 0 {
			t.Error("go-redis reads from an idle connection that shows its socket: it no longer takes a syscall.Conn for unbuffered, so client-side caching over TLS (tlsConn in checkoutguard.go) has to be looked at again")
		}
	}
}

func TestContractErrorsOfTheConnectionReachTheCallerIntact(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		for _, op := range []string{"Write", "Read"} {
			opt := s.Options()
			opt.Protocol = protocol
			c, rs := bare(t, opt)
			c.Ping(bg)
			want := &markedError{}
			rs.list()[0].on(func(x call) error {
				if x.name == op {
					return want
				}
				return nil
			})
			err := c.Get(bg, "k").Err()
			var got *markedError
			if !errors.As(err, &got) || got != want {
				t.Errorf("RESP%d: an error of %s reaches the caller as %T (%v): typed connection errors are lost", protocol, op, err, err)
			}
			_, err = c.Pipelined(bg, func(p redis.Pipeliner) error { p.Get(bg, "k"); return nil })
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Errorf("RESP%d: the pipeline pool is affected by an error of the main pool: %v", protocol, err)
			}
		}
	}
}

type markedError struct{}

func (*markedError) Error() string { return "marked" }

func TestContractOnlyAPlainErrorIsNotRetried(t *testing.T) {
	s := redistest.Start(t)
	for _, x := range []struct {
		what   string
		err    error
		writes int
	}{
		{"a plain error", errors.New("plain"), 1},
		{"an EOF", io.EOF, 3},
	} {
		opt := s.Options()
		opt.MaxRetries = 2
		opt.MinRetryBackoff, opt.MaxRetryBackoff = -1, -1
		c, rs := bare(t, opt)
		writes := 0
		for range 3 { // a connection for every try, so that no try has to dial
			conn := c.Conn()
			defer conn.Close()
			conn.Ping(bg)
		}
		fail := func(y call) error {
			if y.name == "Write" {
				writes++
				return x.err
			}
			return nil
		}
		conn := c.Conn()
		if err := conn.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range rs.list() {
			r.on(fail)
		}
		_ = conn.Close()
		// Connections that are dialed for a retry get their handshake through.
		_ = c.Get(bg, "k").Err()
		if x.writes == 1 && writes != 1 {
			t.Errorf("go-redis tries a command %d times after %s from Write: one refused visit would cost several connections", writes, x.what)
		}
	}
}

// How lifeguard's own hook fulfils contracts of hooks.
func TestContractProcessHooksSeeTheHandshakeAndWrapTheRetries(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.MaxRetries = 2
	opt.MinRetryBackoff, opt.MaxRetryBackoff = -1, -1
	c, rs := bare(t, opt)
	h := &countingHook{}
	c.AddHook(h)
	if err := c.Get(bg, "k").Err(); err != redis.Nil {
		t.Fatal(err)
	}
	seen := h.take()
	if !slices.Contains(seen, "hello") {
		t.Errorf("hooks no longer see the handshake (%v): lifeguard need not pass it through any more", seen)
	}
	tries := 0
	rs.list()[0].on(func(x call) error {
		if x.name == "Write" && tries < 1 {
			tries++
			return io.EOF
		}
		return nil
	})
	if err := c.Get(bg, "k").Err(); err != redis.Nil {
		t.Fatal(err)
	}
	gets := 0
	for _, n := range h.take() {
		if n == "get" {
			gets++
		}
	}
	if gets != 1 || tries != 1 {
		t.Errorf("a hook sees %d attempts of a command that go-redis tried twice: hooks are no longer outside of its retries, so switching those off with MaxRetries -1 is not enough", gets)
	}

	// A Conn has the hooks that its client had when it was made.
	conn := c.Conn()
	defer conn.Close()
	late := &countingHook{}
	c.AddHook(late)
	conn.Get(bg, "k")
	if len(late.take()) > 0 || !slices.Contains(h.take(), "get") {
		t.Error("a Conn no longer takes its hooks from its client at the time of Conn(): the lease's hook may be missing or doubled")
	}
}

func TestContractTheFirstHookAddedIsTheOutermost(t *testing.T) {
	s := redistest.Start(t)
	c, _ := bare(t, s.Options())
	var order []string
	c.AddHook(&orderHook{"first", &order})
	c.AddHook(&orderHook{"second", &order})
	c.Ping(bg)
	order = order[:0]
	c.Ping(bg)
	if strings.Join(order, " ") != "first second" {
		t.Errorf("hooks run in the order %v: lifeguard's, which is added first, is no longer the outermost", order)
	}
	conn := c.Conn()
	defer conn.Close()
	order = order[:0]
	conn.Ping(bg)
	if strings.Join(order, " ") != "first second" {
		t.Errorf("hooks of a Conn run in the order %v: lifeguard's is no longer the outermost", order)
	}
}

func TestContractAClientGetsItsChainsOfHooksTogether(t *testing.T) {
	s := redistest.Start(t)
	c, _ := bare(t, s.Options())
	h := &chainHook{}
	c.AddHook(h)
	for what, do := range map[string]func(){
		"AddHook": func() { c.AddHook(nilHook{}) },
		"Conn":    func() { _ = c.Conn().Close() },
		"Watch":   func() { _ = c.Watch(bg, func(*redis.Tx) error { return nil }) },
	} {
		*h = chainHook{}
		if do(); h.commands == 0 || h.pipelines == 0 {
			t.Errorf("%s makes %d chains of hooks for commands and %d for pipelines: a new chain for commands no longer tells that there is one for pipelines", what, h.commands, h.pipelines)
		}
	}
}

// chainHook counts the chains that it is made a part of.
type chainHook struct{ commands, pipelines int }

func (h *chainHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *chainHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	h.commands++
	return next
}
func (h *chainHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	h.pipelines++
	return next
}

func TestContractHooksThatReturnNilAreSkipped(t *testing.T) {
	s := redistest.Start(t)
	c, _ := bare(t, s.Options())
	c.AddHook(nilHook{})
	if err := c.Set(bg, "k", "v", 0).Err(); err != nil {
		t.Errorf("a hook whose ProcessHook returns nil breaks commands: %v", err)
	}
	if _, err := c.Pipelined(bg, func(p redis.Pipeliner) error { p.Get(bg, "k"); return nil }); err != nil {
		t.Errorf("a hook whose ProcessPipelineHook returns nil breaks pipelines: %v", err)
	}
	conn := c.Conn()
	defer conn.Close()
	if err := conn.Get(bg, "k").Err(); err != nil {
		t.Errorf("a hook that returns nil breaks a Conn: %v", err)
	}

	r := newRig(t, s.Options(), conntrack.Config{})
	r.AddHook(nilHook{})
	if err := r.Get(bg, "k").Err(); err != nil {
		t.Errorf("Unvisited breaks a hook that returns nil: %v", err)
	}
}
