//go:build unix

package sim

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is a small Redis, or a Sentinel: one thread, a few commands, and faults.
type Server struct {
	net      *Network
	addr     string
	shard    int    // in a cluster
	sentinel string // the shard's name, if it is a Sentinel
	doubtful bool   // a link to it was harmed, or the clock jumped; under net.mu
	path     path   // under net.mu
	replica  bool   // under net.mu
	thread   chan struct{}

	mu       sync.Mutex
	slow     time.Duration // each command of data takes that long
	slowKeys time.Duration // those of every second call, while others are answered
	paused   time.Time     // it reads, executes and answers nothing until then
	refuses  refusal
	full     time.Time // "max number of clients reached" until then
	startsAt time.Time // after a crash
}

func (n *Network) addServer(address string, shard int, replica bool) *Server {
	s := &Server{net: n, addr: address, shard: shard, replica: replica, thread: make(chan struct{}, 1)}
	n.servers = append(n.servers, s)
	return s
}

func (s *Server) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

func (s *Server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.startsAt)
}

// crash loses all connections, and no data.
func (s *Server) crash(d time.Duration) {
	s.set(func() { s.startsAt = time.Now().Add(d) })
	s.net.each(s, func(l *Link) { l.reset("is reset by its server, which crashed") })
}

// awake waits while the server is paused.
func (s *Server) awake() {
	for {
		s.mu.Lock()
		until := s.paused
		s.mu.Unlock()
		if until.IsZero() || passed(until) {
			return
		}
		time.Sleep(time.Until(until))
	}
}

// wasStuck reports whether it answered nobody lately: then it is no wonder that
// its connections are ended.
func (s *Server) wasStuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.paused.Add(time.Second))
}

// session is a connection as its server sees it.
type session struct {
	server *Server
	link   *Link
	resp3  bool
	asking bool
	multi  bool
	dirty  error
	queued [][]string
}

func (s *Server) serve(l *Link) {
	defer l.far.Close()
	r, w := bufio.NewReader(l.far), bufio.NewWriter(l.far)
	flush := func() error {
		l.writing <- struct{}{}
		defer func() { <-l.writing }()
		return w.Flush()
	}
	x := &session{server: s, link: l}
	s.mu.Lock()
	full := time.Now().Before(s.full)
	s.mu.Unlock()
	if full {
		encode(w, errors.New("ERR max number of clients reached"), false)
		_ = flush()
		return
	}
	for {
		args, err := parse(r)
		if err != nil || len(args) == 0 {
			return
		}
		s.awake()
		args[0] = strings.ToLower(args[0])
		s.net.trace.add(tokenOf(args), l.n, "%s read by %s", args[0], s.addr)
		for i, reply := range x.answer(args) {
			if i == 0 || args[0] == "subscribe" {
				encode(w, reply, x.resp3)
			}
		}
		if !x.multi && args[0] != "asking" {
			x.asking = false
		}
		if r.Buffered() == 0 || args[0] == "blpop" {
			s.awake()
			if flush() != nil {
				return
			}
			l.setAsked(false)
		}
	}
}

// answer returns the reply; SUBSCRIBE has one for each channel.
func (x *session) answer(args []string) []any {
	switch name := args[0]; name {
	case "multi":
		x.multi, x.queued, x.dirty = true, nil, nil
		return []any{"OK"}
	case "discard":
		x.multi = false
		return []any{"OK"}
	case "exec":
		return []any{x.exec()}
	case "subscribe":
		var out []any
		for i, channel := range args[1:] {
			out = append(out, push{[]byte("subscribe"), []byte(channel), i + 1})
		}
		x.server.net.mu.Lock()
		x.link.subscribed = true
		x.server.net.mu.Unlock()
		return out
	case "blpop":
		if !x.multi {
			return []any{x.pop(args)}
		}
		fallthrough
	default:
		if !isData(name) {
			return []any{x.other(args)}
		}
		if !x.multi {
			return []any{x.run([][]string{args})[0]}
		}
		if err := x.refused(args); err != nil && !(chance(tokenOf(args))%3 == 0 && x.server.refusesNow()) {
			x.dirty = err
			return []any{err}
		} // in every third case the refusal begins only before EXEC
		x.queued = append(x.queued, args)
		return []any{"QUEUED"}
	}
}

func (x *session) exec() any {
	x.multi = false
	switch {
	case x.dirty != nil:
		return errors.New("EXECABORT Transaction discarded because of previous errors.")
	case len(x.queued) == 0:
		return []any{}
	}
	replies := x.run(x.queued)
	switch err := replies[0].(type) {
	case refusalError:
		if word, _, _ := strings.Cut(err.text, " "); word != "MOVED" && word != "ASK" && word != "CLUSTERDOWN" {
			return errors.New("EXECABORT Transaction discarded because of: " + err.text)
		}
		return err
	}
	return replies
}

// refusalError is the server's own word, not that of a script.
type refusalError struct{ text string }

func (e refusalError) Error() string { return e.text }

func refuse(format string, args ...any) error { return refusalError{fmt.Sprintf(format, args...)} }

// run executes commands of data, nothing else in between; if one is refused,
// none is executed, and the only reply is the refusal.
func (x *session) run(cmds [][]string) []any {
	s := x.server
	s.mu.Lock()
	slowKeys := s.slowKeys
	s.mu.Unlock()
	if slowKeys > 0 && slotOf(keyOf(cmds[0]))%2 == 0 {
		time.Sleep(slowKeys)
	}
	s.thread <- struct{}{}
	defer func() { <-s.thread }()
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	for _, args := range cmds {
		if slow > 0 && args[0] != "get" {
			time.Sleep(slow)
		}
	}
	s.awake()
	for _, args := range cmds {
		if err := x.refused(args); err != nil {
			if args[0] == "eval" && strings.HasPrefix(err.Error(), "READONLY") {
				err = refuse("%s", err.Error()+scriptSuffix)
			}
			return []any{err}
		}
	}
	var replies []any
	s.net.mu.Lock()
	for _, args := range cmds {
		replies = append(replies, s.net.data.execute(args))
	}
	s.net.mu.Unlock()
	for i, args := range cmds {
		if token := tokenOf(args); token != "" {
			s.net.ledger.ran(token, x.link, replies[i])
		}
	}
	return replies
}

const popTimeout = time.Second

// pop is BLPOP: some of its lists get an element after a while, the others never.
func (x *session) pop(args []string) any {
	s := x.server
	began, after := time.Now(), chance(args[1])
	var comes time.Time
	if after%3 > 0 {
		comes = began.Add(time.Duration(after) * ms)
	}
	if err := x.refused(args); err != nil {
		return err
	}
	for time.Since(began) < popTimeout {
		time.Sleep(10 * ms)
		s.awake()
		switch {
		case x.link.up.ended():
			return nil
		case x.refused(args) != nil:
			return refuse("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")
		case passed(comes):
			return x.run([][]string{args})[0]
		}
	}
	return nil
}

// chance is a number that a text decides.
func chance(text string) (n int) {
	for _, c := range text {
		n = (n*31 + int(c)) % 997
	}
	return n
}

// refusesNow reports whether a fault makes the server refuse commands for a while.
func (s *Server) refusesNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.refuses.until)
}

// refused is why a command is not carried out, nil if it is.
func (x *session) refused(args []string) error {
	s, write := x.server, isWrite(args[0])
	s.mu.Lock()
	refuses := s.refuses
	s.mu.Unlock()
	if time.Now().Before(refuses.until) && (write || !refuses.writes) {
		return refuse("%s", refuses.text)
	}
	n := s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.slots != nil {
		return n.elsewhereLocked(s, slotOf(keyOf(args)), x.asking)
	}
	if write && (s.replica || x.link.stale) {
		return refuse("%s", refusals["readonly"].text)
	}
	return nil
}

// other answers what is not about data.
func (x *session) other(args []string) any {
	s := x.server
	s.mu.Lock()
	refuses := s.refuses
	s.mu.Unlock()
	arg := func(i int) string {
		if i < len(args) {
			return strings.ToLower(args[i])
		}
		return ""
	}
	switch args[0] {
	case "hello":
		x.resp3 = arg(1) == "3"
		s.net.mu.Lock()
		x.link.resp3 = x.resp3
		s.net.mu.Unlock()
		return pairs(append(append(bulk("server", "redis", "version", "8.0.0", "proto"), map[bool]int{true: 3, false: 2}[x.resp3]),
			bulk("mode", "standalone", "role", "master")...))
	case "ping":
		if time.Now().Before(refuses.until) && !refuses.writes {
			return refuse("%s", refuses.text)
		}
		return "PONG"
	case "client":
		if arg(1) == "maint_notifications" {
			return errors.New("ERR unknown subcommand 'maint_notifications'")
		}
		return "OK"
	case "watch":
		s.net.mu.Lock()
		defer s.net.mu.Unlock()
		if s.net.slots != nil {
			if err := s.net.elsewhereLocked(s, slotOf(args[1]), x.asking); err != nil {
				return err
			}
		}
		return "OK"
	case "unwatch", "readonly", "auth", "select":
		return "OK"
	case "asking":
		x.asking = true
		return "OK"
	case "config":
		values := map[string]string{"timeout": "0", "maxclients": "10000"}
		if v, ok := values[arg(2)]; ok && arg(1) == "get" {
			return pairs(bulk(arg(2), v))
		}
		return pairs{}
	case "command":
		return commandTable()
	case "cluster":
		if arg(1) == "slots" {
			return s.net.slotMap()
		}
	case "sentinel":
		return s.net.sentinelReply(arg(1))
	}
	return fmt.Errorf("ERR unknown command '%s'", args[0])
}

// commandTable is the reply to COMMAND.
func commandTable() any {
	names := []string{"get", "set", "incr", "append", "lpush", "eval", "blpop"}
	for name := range once {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []any
	for _, name := range names {
		first := 1
		flags := []any{"write"}
		if name == "get" {
			flags = []any{"readonly"}
		}
		if name == "eval" {
			first, flags = 0, []any{"noscript", "movablekeys"}
		}
		out = append(out, []any{[]byte(name), -2, flags, first, first, first, []any{}, []any{}, []any{}, []any{}})
	}
	return out
}

func hostPort(address string) (string, string) {
	host, port, _ := net.SplitHostPort(address)
	return host, port
}
