package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

// fleetSize is how many processes there are.
const fleetSize = 20

// fleetClients is the maxclients of their server: a little more than they need.
const fleetClients = 120

// holds is how many connections the nth of them has in use, ends how many it has
// ended.
func holds(n int) int { return 1 + n%3 }
func ends(n int) int  { return n % 2 }

// A fleet of processes on one server: what it says of itself is what the server's
// CLIENT LIST says, also for one that is killed and for one that leaves.
func TestTheSumsOfAFleetOf20ProcessesAreThoseOfTheServer(t *testing.T) {
	if n := os.Getenv("LIFEGUARD_TEST_MEMBER"); n != "" {
		member(t, n, os.Getenv("LIFEGUARD_TEST_SERVER"))
		return
	}
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...string) *redistest.Server{"Redis": redistest.Start, "Valkey": redistest.StartValkey} {
		t.Run(name, func(t *testing.T) { fleetOf20(t, start(t, "--maxclients", strconv.Itoa(fleetClients))) })
	}
}

// process is a member in a process of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func startMember(t *testing.T, n int, addr string) *process {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestTheSumsOfAFleetOf20ProcessesAreThoseOfTheServer$")
	cmd.Env = append(os.Environ(), "LIFEGUARD_TEST_MEMBER="+strconv.Itoa(n), "LIFEGUARD_TEST_SERVER="+addr)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, in}
	t.Cleanup(func() { // if the test has not ended it
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("member %d said %q, %v", n, line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return p
}

// member is the body of a process: it uses connections, publishes its numbers, and
// leaves when it is told to.
func member(t *testing.T, n, addr string) {
	ctx := context.Background()
	k, _ := strconv.Atoi(n)
	rdb := redis.NewClient(&redis.Options{Addr: addr, ClientName: "member", MinIdleConns: 1, MaxRetries: -1})
	for range ends(k) {
		c := rdb.Conn()
		id, err := c.ClientID(ctx).Result()
		check(t, err)
		check(t, rdb.ClientKillByFilter(ctx, "ID", strconv.FormatInt(id, 10)).Err())
		if c.Ping(ctx).Err() == nil {
			t.Fatal("a killed connection answers")
		}
		_ = c.Close()
	}
	for range holds(k) {
		check(t, rdb.Conn().Ping(ctx).Err())
	}
	m, err := monitor.New(monitor.FromClient(rdb))
	check(t, err)
	p, err := fleet.Publish(m, rdb, fleet.WithService("member-"+n), fleet.WithInterval(300*time.Millisecond), fleet.WithLostAfter(5*time.Second), fleet.WithClientNames("member"))
	check(t, err)
	check(t, p.Now(ctx))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	check(t, p.Close())
	check(t, m.Close())
	check(t, rdb.Close())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fleetOf20(t *testing.T, s *redistest.Server) {
	ctx := context.Background()
	opt := s.Options()
	opt.ClientName = "reader"
	reader := redis.NewClient(opt)
	defer reader.Close()
	// Those that go-redis opens for MinIdleConns have no name until they are used.
	onServer := func() (open int) {
		for _, c := range s.ClientList(t) {
			if c.Name != "reader" {
				open++
			}
		}
		return open
	}
	read := func() fleet.Fleet {
		t.Helper()
		f, err := fleet.Read(ctx, reader)
		check(t, err)
		gaps := slices.DeleteFunc(f.Gaps, func(g string) bool { return strings.HasPrefix(g, "incomplete: the index is new") })
		if len(gaps) > 0 {
			t.Fatalf("gaps: %q", gaps)
		}
		return f
	}
	agree := func(what string) (f fleet.Fleet) {
		t.Helper()
		redistest.Eventually(t, what, 30*time.Second, func() bool {
			f = read()
			return f.Sum.Total == onServer() && f.Sum.Total == f.Sum.Active+f.Sum.Idle
		})
		return f
	}

	var all []*process
	held, ended := 0, 0
	for n := range fleetSize {
		all = append(all, startMember(t, n, s.Addr()))
		held, ended = held+holds(n), ended+ends(n)
	}
	began := time.Now()
	f := agree("all are counted")
	took := time.Since(began)
	if f.Alive != fleetSize || f.Lost != 0 || f.Sum.Active != held || int(f.Sum.Disconnected) != ended {
		t.Fatalf("%v; want %d instances, %d active, %d disconnected", f, fleetSize, held, ended)
	}
	t.Logf("%v; the server has %d; after %v", f, onServer(), took.Round(time.Millisecond))
	timeRead(t, reader)

	// The alert about maxclients.
	src, err := fleet.NewSource(reader)
	check(t, err)
	alerts := make(chan monitor.Alert, 10)
	share := 0.9 * float64(f.Sum.Total) / fleetClients
	m, err := monitor.New(src, monitor.WithoutDefaults(), monitor.WithInterval(100*time.Millisecond), monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }),
		monitor.Threshold{Metric: monitor.MaxClients, Limit: share, CoolDown: -1})
	check(t, err)
	defer m.Close()
	alert := func(active bool) {
		t.Helper()
		select {
		case a := <-alerts:
			if a.Active != active || a.Node != s.Addr() {
				t.Fatalf("%v", a)
			}
			t.Log(a)
		case <-time.After(30 * time.Second):
			t.Fatalf("no alert has come: %v", m.Stats())
		}
	}
	alert(true)

	// One dies without a word.
	dead := all[5]
	var last fleet.Instance
	for _, i := range f.Instances {
		if i.PID == dead.cmd.Process.Pid {
			last = i
		}
	}
	check(t, dead.cmd.Process.Kill())
	_ = dead.cmd.Wait()
	died := time.Now()
	redistest.Eventually(t, "it is lost", 30*time.Second, func() bool { return read().Lost == 1 })
	t.Logf("found to be lost %v after kill -9", time.Since(died).Round(10*time.Millisecond))
	f = agree("the dead one is not counted")
	i := slices.IndexFunc(f.Instances, func(i fleet.Instance) bool { return i.Lost })
	if got := f.Instances[i]; got.PID != dead.cmd.Process.Pid || got.Service != "member-5" || got.Numbers.String() != last.Numbers.String() || got.Age <= got.LostAfter {
		t.Fatalf("lost: %v; want the last of %v", got, last)
	}
	if f.Alive != fleetSize-1 || f.LostSum.String() != last.Numbers.String() || f.Sum.Active != held-holds(5) {
		t.Fatalf("%v, lost %v", f, f.LostSum)
	}
	t.Logf("%v; the server has %d", f, onServer())

	// Ten leave: they are gone at once, and the alert is over.
	for n := range 11 {
		if n != 5 {
			_ = all[n].stdin.Close()
		}
	}
	for n := range 11 {
		if n != 5 {
			check(t, all[n].cmd.Wait())
		}
	}
	f = read()
	if f.Alive != fleetSize-11 || f.Lost != 1 {
		t.Fatalf("after 10 goodbyes: %v", f)
	}
	alert(false)
	agree("those who have left are not counted")
	for _, p := range all[11:] {
		_ = p.stdin.Close()
	}
	for _, p := range all[11:] {
		check(t, p.cmd.Wait())
	}
	if f = read(); f.Alive != 0 || f.Lost != 1 || f.Sum.Total != onServer() {
		t.Fatalf("at the end: %v", f)
	}
}

// timeRead says what reading costs.
func timeRead(t *testing.T, rdb redis.UniversalClient) {
	start := time.Now()
	const n = 50
	for range n {
		if _, err := fleet.Read(context.Background(), rdb); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("Read of %d instances: %v", fleetSize, (time.Since(start) / n).Round(10*time.Microsecond))
}
