package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// wire is two network namespaces with a cable between them: a server in one, and
// connections that are dialed from the other.
type wire struct {
	t              testing.TB
	client, server string // names of the namespaces
	port           string
}

const (
	serverIP = "10.211.0.2"
	clientIP = "10.211.0.1"
	secondIP = "10.211.0.3" // of the client, for connections that are made after a cut
)

// newWire lays the cable and starts the server; all of it ends with the test.
func newWire(t *testing.T) *wire {
	t.Helper()
	bin := redistest.Binary(t, "redis-server")
	missing := func(why string) {
		t.Helper()
		redistest.Missing(t, "no network namespaces: "+why)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		missing("install iproute2")
	}
	id := fmt.Sprintf("lifeguard-%04x", rand.Uint32N(1<<16))
	w := &wire{t: t, client: id + "-c", server: id + "-s", port: "6379"}
	for _, ns := range []string{w.client, w.server} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			missing(strings.TrimSpace(string(out)))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		w.in(ns, "link", "set", "lo", "up")
	}
	if out, err := exec.Command("ip", "link", "add", "cable", "netns", w.client, "type", "veth", "peer", "name", "cable", "netns", w.server).CombinedOutput(); err != nil {
		missing(strings.TrimSpace(string(out)))
	}
	w.in(w.client, "addr", "add", clientIP+"/24", "dev", "cable")
	w.in(w.server, "addr", "add", serverIP+"/24", "dev", "cable")
	w.in(w.client, "link", "set", "cable", "up")
	w.in(w.server, "link", "set", "cable", "up")

	cmd := exec.Command("ip", "netns", "exec", w.server, bin, "--bind", serverIP, "--port", w.port, "--protected-mode", "no",
		"--save", "", "--appendonly", "no", "--dir", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, end, ended := make(chan error, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // Pdeathsig goes by the thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		<-end
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(end); <-ended })
	redistest.Eventually(t, "the server in its namespace answers", 10*time.Second, func() bool {
		c, err := w.dial(t.Context(), "tcp", w.addr())
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return w
}

func (w *wire) addr() string { return net.JoinHostPort(serverIP, w.port) }

func (w *wire) in(ns string, args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", append([]string{"-n", ns}, args...)...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip -n %s %s: %s", ns, strings.Join(args, " "), out)
	}
}

// dial opens a connection from the client's namespace: a socket belongs to that
// of the thread which makes it.
func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread must come back: if it ended, the kernel would kill the servers
		// that were started from it (Pdeathsig).
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- result{nil, err}
			runtime.UnlockOSThread()
			return
		}
		defer home.Close()
		if err := enter(filepath.Join("/run/netns", w.client)); err != nil {
			done <- result{nil, err}
			runtime.UnlockOSThread()
			return
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if e := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); e != nil {
			panic(e) // a thread in the wrong namespace
		}
		runtime.UnlockOSThread()
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}

// enter takes this thread to a network namespace.
func enter(ns string) error {
	f, err := os.Open(ns)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// options are for connections over the wire.
func (w *wire) options() *redis.Options {
	return &redis.Options{Addr: w.addr(), Dialer: w.dial}
}

// cut makes black holes of the connections there are: what the server sends to
// the client's first address is lost. New ones are made from the second one.
func (w *wire) cut() {
	w.in(w.client, "addr", "add", secondIP+"/24", "dev", "cable")
	w.in(w.client, "route", "replace", "10.211.0.0/24", "dev", "cable", "src", secondIP)
	w.in(w.server, "route", "add", "blackhole", clientIP+"/32")
}

func (w *wire) plug(on bool) {
	state := "down"
	if on {
		state = "up"
	}
	w.in(w.server, "link", "set", "cable", state)
}

// shape makes the line to the server slow.
func (w *wire) shape(rate string) {
	w.t.Helper()
	args := []string{"netns", "exec", w.client, "tc", "qdisc", "add", "dev", "cable", "root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"}
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		redistest.Missing(w.t, fmt.Sprintf("no slow lines here: tc: %s", out))
	}
}

func TestWhenALinkIsCutEverybodyIsServedInTime(t *testing.T) {
	t.Parallel()
	for _, size := range []int{64, 16} {
		w := newWire(t)
		opt := w.options()
		opt.PoolSize, opt.ReadTimeout = size, 5*time.Second
		c := guarded(t, opt)
		if _, errs := crowd(64, 20, mixed(c)); len(errs) > 0 { // they pay for what will be sent again
			t.Fatal(errs[0])
		}
		warmed(t, c, size)
		w.cut()
		took, errs := crowd(64, 4, mixed(c))
		t.Logf("64 callers, %d connections: the longest of %d commands took %v, the median %v; %v", size, len(took), took[len(took)-1], took[len(took)/2], c.CloseReasons())
		if len(errs) > 0 {
			t.Errorf("%d failed: %v", len(errs), errs[0])
		}
		if took[len(took)-1] > 1500*time.Millisecond {
			t.Errorf("the longest took %v", took[len(took)-1])
		}
	}
}

// What the kernel says is enough where no connection is idle, for a command that may
// block as for any other one.
func TestTheKernelTellsOfACutLink(t *testing.T) {
	t.Parallel()
	for _, cmd := range []string{"incr", "blpop"} {
		t.Run(cmd, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			opt := w.options()
			opt.PoolSize, opt.ReadTimeout = 1, 20*time.Second
			c := guarded(t, opt)
			warmed(t, c, 1)
			time.Sleep(300 * time.Millisecond) // for a question of maintenance
			w.cut()
			began := time.Now()
			var err error
			if cmd == "incr" {
				err = c.Incr(t.Context(), "n").Err()
			} else {
				err = c.BLPop(t.Context(), 20*time.Second, "none").Err()
			}
			took := redistest.Took(began)
			t.Logf("after %v: %v", took, err)
			if !errors.Is(err, retry.ErrUnknownOutcome) || !strings.Contains(err.Error(), "nothing was acknowledged") || took > 1500*time.Millisecond {
				t.Errorf("want the kernel's word within 1.5 s, got %v after %v", err, took)
			}
			if ends := c.CloseReasons(); ends[hooks.ReasonUnacked] != 1 {
				t.Error(ends)
			}
			if err := c.Get(t.Context(), "key").Err(); err != redis.Nil {
				t.Error(err)
			}
		})
	}
}

// A link that is down for a moment costs nothing but that moment: as long as nobody
// new gets through, it is not the connection that is dead.
func TestALinkThatIsDownForAMomentCostsNoConnection(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	c := guarded(t, w.options())
	warmed(t, c, 4)
	time.Sleep(300 * time.Millisecond)
	w.plug(false)
	time.AfterFunc(1200*time.Millisecond, func() { w.plug(true) })
	began := time.Now()
	if err := c.Incr(t.Context(), "n").Err(); err != nil {
		t.Error(err)
	}
	t.Logf("INCR took %v", time.Since(began))
	if ends := c.CloseReasons(); len(ends) > 0 {
		t.Error(ends)
	}
}

// A line of 16 Mbit/s with a deep queue is slow, not dead.
func TestAnUploadOverASlowLinkIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	w.shape("16mbit")
	bare := redis.NewClient(w.options())
	defer bare.Close()
	c := guarded(t, w.options())
	warmed(t, c, 4)
	time.Sleep(300 * time.Millisecond)
	ctx := t.Context()
	for _, x := range []struct {
		name string
		do   func(redis.UniversalClient) error
	}{
		{"RPUSH of 2 MB", func(c redis.UniversalClient) error { return c.RPush(ctx, "list", strings.Repeat("x", 2<<20)).Err() }},
		{"APPEND, 6 times 1 MB in a pipeline", func(c redis.UniversalClient) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				for range 6 {
					p.Append(ctx, "long", strings.Repeat("x", 1<<20))
				}
				return nil
			})
			return err
		}},
		{"SET of 2 MB twice at once", func(c redis.UniversalClient) error {
			errs := make(chan error, 2)
			for i := range 2 {
				go func() { errs <- c.Set(ctx, fmt.Sprint("key", i), strings.Repeat("x", 2<<20), 0).Err() }()
			}
			return errors.Join(<-errs, <-errs)
		}},
	} {
		for who, c := range map[string]redis.UniversalClient{"ours": c, "go-redis's": bare} {
			began := time.Now()
			err := x.do(c)
			t.Logf("%s, %s: %v, %v", x.name, who, time.Since(began), err)
			if err != nil && who == "ours" {
				t.Errorf("%s: %v", x.name, err)
			}
		}
	}
	if n := bare.LLen(ctx, "list").Val(); n != 2 {
		t.Errorf("RPUSH was carried out %d times for 2 clients", n)
	}
	if n := bare.StrLen(ctx, "long").Val(); n != 12<<20 {
		t.Errorf("APPEND left %d MB", n>>20)
	}
	if ends := c.CloseReasons(); len(ends) > 0 || c.RetryStats().Retries > 0 {
		t.Error(ends, c.RetryStats())
	}
}

// Kernels report a peer that does not read, of an upload, of silence and of a cut
// link what hooks relies on.
func TestWhatTheKernelSays(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	opt := w.options()
	tracker := conntrack.NewTracker(conntrack.Config{})
	node := tracker.NewNode(opt)
	c := redis.NewClient(opt)
	defer c.Close()
	node.Bind(c)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	var conn *conntrack.Conn
	tracker.Range(func(x *conntrack.Conn) bool { conn = x; return false })
	if u, ok := conn.Unacked(); !ok || u.Pending || u.Tries > 0 {
		t.Errorf("in silence: %+v, %v", u, ok)
	}
	w.cut()
	go func() { _ = c.Incr(context.Background(), "n").Err() }()
	redistest.Eventually(t, "the kernel tries again", 5*time.Second, func() bool {
		u, _ := conn.Unacked()
		return u.Pending && u.Tries >= 2
	})
}

func TestAnUnpluggedCableCostsNoCommandThatMayWait(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	opt := w.options()
	opt.PoolSize = 16 // and the default timeouts: 3 s for a reply, 4 s for a slot, 5 s for a dial
	c := guarded(t, opt)
	warmed(t, c, 16)
	w.plug(false)
	type done struct {
		took []time.Duration
		errs []error
	}
	result := make(chan done, 1)
	go func() {
		took, errs := crowd(64, 2, func(ctx context.Context, i int) error {
			ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
			defer cancel()
			return mixed(c)(ctx, i)
		})
		result <- done{took, errs}
	}()
	time.Sleep(2 * time.Second)
	w.plug(true)
	back := time.Now()
	d := <-result
	t.Logf("the last of %d commands was done %v after the cable was back; %d failed; %v", len(d.took), time.Since(back), len(d.errs), c.CloseReasons())
	if len(d.errs) > 0 {
		t.Errorf("%d failed: %v", len(d.errs), d.errs[0])
	}
}
