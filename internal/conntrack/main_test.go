package conntrack_test

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// soon bounds what should take no time at all.
const soon = 10 * time.Second

var bg = context.Background()

// rig is a client with tracked connections and nothing else: no retries, no
// managed leases.
type rig struct {
	*redis.Client
	node    *conntrack.Node
	tracker *conntrack.Tracker
	hook    *conntrack.Hook
	events  *eventLog
}

// AddHook adds a hook that sees no visits, inside of ours.
func (r *rig) AddHook(h redis.Hook) { r.Client.AddHook(conntrack.Unvisited(h)) }

// visit visits one idle connection.
func (r *rig) visit(p hooks.Pool) (met *conntrack.Conn, removed bool, err error) {
	return r.node.Visit(p, 0)
}

// newRig makes a client of opt, which is changed. Retries are off unless
// opt.MaxRetries says otherwise.
func newRig(t testing.TB, opt *redis.Options, cfg conntrack.Config) *rig {
	t.Helper()
	if opt.MaxRetries == 0 {
		opt.MaxRetries = -1
	}
	if opt.MaintNotificationsConfig == nil {
		opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	}
	log := &eventLog{}
	if cfg.OnEvent == nil {
		cfg.OnEvent = log.add
	}
	tr := conntrack.NewTracker(cfg)
	n := tr.NewNode(opt)
	c := redis.NewClient(opt)
	h := &conntrack.Hook{Node: n}
	h.Install(c, nil, nil)
	n.Bind(c)
	r := &rig{Client: c, node: n, tracker: tr, hook: h, events: log}
	t.Cleanup(func() {
		tr.Shut()
		n.Close()
		_ = c.Close()
	})
	return r
}

// conns are the tracked connections, the oldest first.
func (r *rig) conns() []*conntrack.Conn {
	var out []*conntrack.Conn
	for _, i := range r.tracker.Conns() {
		r.tracker.Range(func(c *conntrack.Conn) bool {
			if c.ID() == i.ID {
				out = append(out, c)
			}
			return true
		})
	}
	return out
}

// only is the one tracked connection.
func (r *rig) only(t testing.TB) *conntrack.Conn {
	t.Helper()
	all := r.conns()
	if len(all) != 1 {
		t.Fatalf("%d connections are open, want 1: %v", len(all), r.tracker.Conns())
	}
	return all[0]
}

// fill opens n connections of the main pool and leaves them idle.
func (r *rig) fill(t testing.TB, n int) {
	t.Helper()
	held := make([]*redis.Conn, n)
	for i := range held {
		held[i] = r.Conn()
		if err := held[i].Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range held {
		_ = c.Close()
	}
}

// lease is an Acquire as package managed does it.
func (r *rig) lease(t testing.TB) (*redis.Conn, *conntrack.Conn) {
	t.Helper()
	conn := r.Conn()
	c, err := r.node.Acquire(bg, conn, nil)
	if err != nil {
		_ = conn.Close()
		t.Fatalf("Acquire: %v", err)
	}
	c.SetLeased(true)
	return conn, c
}

// eventLog keeps events.
type eventLog struct {
	mu  sync.Mutex
	all []hooks.Event
}

func (l *eventLog) add(e hooks.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *eventLog) of(k hooks.EventKind) []hooks.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []hooks.Event
	for _, e := range l.all {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

// wantClosed waits for the end of the connection and says why it ended.
func (l *eventLog) wantClosed(t testing.TB, id uint64, want hooks.Reason) hooks.Event {
	t.Helper()
	var found hooks.Event
	redistest.Eventually(t, "an event tells that the connection was closed", soon, func() bool {
		for _, e := range l.of(hooks.Closed) {
			if e.ConnID == id {
				found = e
				return true
			}
		}
		return false
	})
	if found.Reason != want {
		t.Errorf("connection %d was closed for %q, want %q (%v)", id, found.Reason, want, found)
	}
	return found
}

// call is one call of a method of a net.Conn.
type call struct {
	name string
	zero bool // the deadline given was the zero time
	n    int  // bytes
}

func (c call) String() string {
	if c.zero {
		return c.name + "(zero)"
	}
	return c.name
}

// recorder is a net.Conn that writes down what go-redis does with it. It shows
// SyscallConn if the connection below does.
type recorder struct {
	net.Conn

	mu     sync.Mutex
	calls  []call
	onCall func(call) error // may fail a Write, Read or SyscallConn
}

func (r *recorder) note(c call) error {
	r.mu.Lock()
	r.calls = append(r.calls, c)
	f := r.onCall
	r.mu.Unlock()
	if f != nil {
		return f(c)
	}
	return nil
}

// take returns the calls since the last take.
func (r *recorder) take() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.calls
	r.calls = nil
	return out
}

func (r *recorder) on(f func(call) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onCall = f
}

func (r *recorder) Read(b []byte) (int, error) {
	if err := r.note(call{name: "Read", n: len(b)}); err != nil {
		return 0, err
	}
	return r.Conn.Read(b)
}

func (r *recorder) Write(b []byte) (int, error) {
	if err := r.note(call{name: "Write", n: len(b)}); err != nil {
		return 0, err
	}
	return r.Conn.Write(b)
}

func (r *recorder) SetDeadline(t time.Time) error {
	_ = r.note(call{name: "SetDeadline", zero: t.IsZero()})
	return r.Conn.SetDeadline(t)
}

func (r *recorder) SetReadDeadline(t time.Time) error {
	_ = r.note(call{name: "SetReadDeadline", zero: t.IsZero()})
	return r.Conn.SetReadDeadline(t)
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	_ = r.note(call{name: "SetWriteDeadline", zero: t.IsZero()})
	return r.Conn.SetWriteDeadline(t)
}

func (r *recorder) Close() error {
	_ = r.note(call{name: "Close"})
	return r.Conn.Close()
}

// recorderSys is a recorder with a socket.
type recorderSys struct{ *recorder }

func (r recorderSys) SyscallConn() (syscall.RawConn, error) {
	if err := r.note(call{name: "SyscallConn"}); err != nil {
		return nil, err
	}
	return r.Conn.(syscall.Conn).SyscallConn()
}

// recorders has the recorders of one bare client, in the order of their dials.
type recorders struct {
	mu   sync.Mutex
	all  []*recorder
	hide bool // no SyscallConn
}

func (rs *recorders) dialer(next func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		r := &recorder{Conn: c}
		rs.mu.Lock()
		rs.all = append(rs.all, r)
		rs.mu.Unlock()
		if _, ok := c.(syscall.Conn); ok && !rs.hide {
			return recorderSys{r}, nil
		}
		return r, nil
	}
}

func (rs *recorders) list() []*recorder {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return append([]*recorder(nil), rs.all...)
}

// bare makes a plain go-redis client whose connections are recorded: what the
// contract tests look at.
func bare(t testing.TB, opt *redis.Options) (*redis.Client, *recorders) {
	t.Helper()
	rs := &recorders{}
	return bareWith(t, opt, rs), rs
}

func bareWith(t testing.TB, opt *redis.Options, rs *recorders) *redis.Client {
	t.Helper()
	if opt.MaxRetries == 0 {
		opt.MaxRetries = -1
	}
	if opt.MaintNotificationsConfig == nil {
		opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	}
	if opt.Dialer == nil {
		base := *opt
		if base.DialTimeout == 0 {
			base.DialTimeout = 5 * time.Second
		}
		opt.Dialer = redis.NewDialer(&base)
	}
	opt.Dialer = rs.dialer(opt.Dialer)
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func names(calls []call) []string {
	out := make([]string, len(calls))
	for i, c := range calls {
		out[i] = c.String()
	}
	return out
}

func count(calls []call, name string) int {
	n := 0
	for _, c := range calls {
		if c.String() == name {
			n++
		}
	}
	return n
}

// hang runs f and fails if it has not returned after soon.
func hang(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatalf("%s has not returned after %v", what, soon)
	}
}

// countingHook notes the names of the commands it sees.
type countingHook struct {
	mu    sync.Mutex
	names []string
}

func (h *countingHook) add(cmds ...redis.Cmder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range cmds {
		h.names = append(h.names, c.Name())
	}
}

func (h *countingHook) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.names
	h.names = nil
	return out
}

func (h *countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.add(cmd)
		return next(ctx, cmd)
	}
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.add(cmds...)
		return next(ctx, cmds)
	}
}

// orderHook notes that it was called.
type orderHook struct {
	name string
	log  *[]string
}

func (h *orderHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *orderHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "ping" {
			*h.log = append(*h.log, h.name)
		}
		return next(ctx, cmd)
	}
}

func (h *orderHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// nilHook hooks nothing.
type nilHook struct{}

func (nilHook) DialHook(redis.DialHook) redis.DialHook                                  { return nil }
func (nilHook) ProcessHook(redis.ProcessHook) redis.ProcessHook                         { return nil }
func (nilHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }
