package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

// finding is one of doctor's, in JSON.
type finding struct{ ID, Severity, What, Why, Change string }

// examined are the findings by id, and the exit code.
func examined(t *testing.T, s *redistest.Server, args ...string) (map[string]finding, int) {
	t.Helper()
	code, stdout, stderr := ask(t, append([]string{"doctor", "--json"}, args...), port(t, s)...)
	require.Empty(t, stderr)
	var got struct {
		Findings []finding
		Worst    string
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got), stdout)
	out := map[string]finding{}
	for _, f := range got.Findings {
		out[f.ID] = f
		if f.Severity != "ok" {
			require.NotEmpty(t, f.Why, f.What)
			require.NotEmpty(t, f.Change, f.What)
		}
	}
	require.Equal(t, map[string]int{"ok": exitOK, "note": exitOK, "warning": exitWarnings, "critical": exitCritical}[got.Worst], code)
	return out, code
}

func TestDoctorFindsWhatWillHurt(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		for _, tt := range []struct {
			args         string
			id, severity string
			what         string
		}{
			{"", "timeout", "warning", "idle for 1m"},
			{"--max-idle 45s", "timeout", "ok", ""},
			{"--managed", "timeout", "ok", "heartbeat"},
			{"--managed --heartbeat 2m", "timeout", "warning", "heartbeat is 2m"},
			{"", "tcp-keepalive", "warning", "is off"},
			{"--pool-size 20 --pipeline-pool-size 5 --instances 5", "maxclients", "critical", "5 instances x 25 connections (PoolSize 20 + PipelinePoolSize 5) = 125, of 100"},
			{"--pool-size 5 --pipeline-pool-size -1 --instances 3", "maxclients", "ok", "= 15, of 100"},
			{"--conn-limit 10 --instances 20", "maxclients", "critical", "= 200, of 100"},
			{"", "max-age", "warning", "no maximum age"},
			{"--max-age 1h --managed", "max-age", "ok", ""},
			{"--pool-size 2 --concurrency 200 --processors 64", "pool-size", "warning", "PoolSize 2"},
			{"--pool-size 100 --concurrency 10", "pool-size", "note", "PoolSize 100"},
			{"", "retries", "note", "may have been executed"},
			{"", "context-timeout", "note", "deadline"},
		} {
			found, _ := examined(t, s, strings.Fields(tt.args)...)
			require.Contains(t, found, tt.id, tt.args)
			require.Equal(t, tt.severity, found[tt.id].Severity, "%s: %+v", tt.args, found[tt.id])
			require.Contains(t, found[tt.id].What, tt.what, tt.args)
		}
		_, code := examined(t, s, "--instances", "50")
		require.Equal(t, exitCritical, code)
		_, code = examined(t, s)
		require.Equal(t, exitWarnings, code)
	}, "--timeout", "60", "--tcp-keepalive", "0", "--maxclients", "100")
}

func TestDoctorTakesTheConfigurationFromURLFileAndFlags(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "100")
	file := t.TempDir() + "/client.json"
	require.NoError(t, os.WriteFile(file, []byte(`{"Addr": "`+s.Addr()+`", "PoolSize": 7, "PipelinePoolSize": -1, "ConnMaxIdleTime": "5m", "ReadTimeout": 3000000000, "WithMaxAge": "1h"}`), 0o600))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-u", "redis://" + s.Addr() + "?pool_size=7&pipeline_pool_size=-1"}, "1 instance of up to 7 connections"},
		{[]string{"-u", "redis://" + s.Addr() + "?pool_size=7&pipeline_pool_size=-1", "--pool-size", "9"}, "1 instance of up to 9 connections"},
		{[]string{"--options", file}, "1 instance of up to 7 connections"},
		{[]string{"--options", file, "--pool-size", "8"}, "1 instance of up to 8 connections"},
		{[]string{"--options", file}, "maximum age 1h, idle time 5m, read timeout 3s"},
		{[]string{"--options", file}, "managed by lifeguard"},
	} {
		t.Setenv("REDIS_URL", "redis://127.0.0.1:1") // weaker than all of these
		_, stdout, stderr := call(t, append([]string{"doctor"}, tt.args...)...)
		require.Empty(t, stderr)
		require.Contains(t, strings.Join(strings.Fields(stdout), " "), tt.want, tt.args)
	}
	for text, want := range map[string]string{
		`{"PoolSize": `:        "line 1",
		`[]`:                   "want an object",
		`{"PoolSiz": 3}`:       "PoolSiz: neither a field of redis.Options",
		`{"PoolSize": "3"}`:    "PoolSize: want a value of type int",
		`{"PoolTimeout": "3"}`: `PoolTimeout: want a time like "30m"`,
		`{"Dialer": 3}`:        "Dialer: cannot be said in JSON",
	} {
		var out, errs bytes.Buffer
		root := newRoot(&out, &errs)
		root.Reader = strings.NewReader(text)
		require.Equal(t, exitUsage, runRoot(t.Context(), root, []string{"lifeguard", "doctor", "--options", "-"}), text)
		require.Contains(t, errs.String(), "--options -: ")
		require.Contains(t, errs.String(), want)
	}
	code, _, stderr := call(t, "doctor", "--options", t.TempDir()+"/none")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "none: ")
}

func TestDoctorDoesNotAdviseWhatIsDoneAlready(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		connect(t, s, "")
		found, _ := examined(t, s)
		require.Contains(t, found["unnamed-connections"].Change, "ClientName")
		_, stdout, _ := call(t, "doctor", "--json", "-u", "redis://"+s.Addr()+"?client_name=orders")
		require.Contains(t, stdout, "yours have one")
		// 60 of 100: twice as many do not fit, and a pool that is larger is no answer.
		found, _ = examined(t, s, "--pool-size", "60", "--pipeline-pool-size", "-1")
		require.Equal(t, "note", found["maxclients"].Severity)
		require.Contains(t, found["maxclients"].Change, "PoolSize: 50")
		require.Contains(t, found["maxclients"].Change, "maxclients 120")
		found, _ = examined(t, s, "--pool-size", "60", "--conn-limit", "55")
		require.Contains(t, found["maxclients"].Change, "maxclients 110")
		require.Contains(t, found["maxclients"].Change, "managed.WithConnLimit(50)")
		_, stdout, _ = ask(t, []string{"doctor", "--max-age", "500ms", "--max-idle", "250ms"}, port(t, s)...)
		require.Contains(t, strings.Join(strings.Fields(stdout), " "), "maximum age 500ms, idle time 250ms")
	}, "--maxclients", "100")
}

var (
	poolSizes   = regexp.MustCompile(`pool_size=(-?\d+)&pipeline_pool_size=(-?\d+)`)
	maxClients  = regexp.MustCompile(`maxclients (\d+)`)
	noWarnings  = []string{"ok", "note"}
	needsChange = []string{"warning", "critical"}
)

func TestDoctorGivesSizesOfAllPoolsThatFitTogether(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "50")
	judge := func(args ...string) finding {
		found, _ := examined(t, s, append([]string{"--max-age", "1h", "--managed"}, args...)...)
		return found["maxclients"]
	}
	found := judge("--instances", "12", "--pool-size", "20")
	require.Equal(t, "critical", found.Severity)
	require.Contains(t, found.Change, "redis.Options{PoolSize: 2, PipelinePoolSize: 1}")
	for _, args := range [][]string{{"--instances", "12"}, {"--instances", "1", "--pool-size", "50"}, {"--instances", "12", "--pool-size", "1", "--pipeline-pool-size", "40"},
		{"--instances", "25", "--pool-size", "7"}, {"--instances", "40"}, {"--instances", "3", "--pool-size", "40", "--pipeline-pool-size", "3"}} {
		found := judge(args...)
		require.Contains(t, needsChange, found.Severity, args)
		m := poolSizes.FindStringSubmatch(found.Change)
		require.NotNil(t, m, found.Change)
		followed := judge(append(args, "--pool-size", m[1], "--pipeline-pool-size", m[2])...)
		require.Contains(t, noWarnings, followed.Severity, "%v: %s, and then %s", args, found.Change, followed.What)
	}
	found = judge("--instances", "60", "--pool-size", "10") // one connection each is too many
	require.NotContains(t, found.Change, "PoolSize")
	limit := maxClients.FindStringSubmatch(found.Change)
	require.NotNil(t, limit)
	require.NoError(t, s.Admin().ConfigSet(t.Context(), "maxclients", limit[1]).Err())
	require.Contains(t, noWarnings, judge("--instances", "60", "--pool-size", "10").Severity)
	require.NoError(t, s.Admin().ConfigSet(t.Context(), "maxclients", "50").Err())
	// More callers than would fit: then it is no answer.
	found = judge("--instances", "12", "--pool-size", "20", "--concurrency", "15", "--processors", "16")
	require.NotContains(t, found.Change, "PoolSize")
	require.Contains(t, found.Change, "maxclients")
	found = judge("--instances", "12", "--pool-size", "20", "--blocking-pool", "10")
	require.Contains(t, found.Change, "redis.Options{PoolSize: 1, PipelinePoolSize: 1} and managed.WithBlockingPool(1)")
}

func TestADefaultManagedClientPassesTheDoctor(t *testing.T) {
	s := redistest.Start(t)
	found, code := examined(t, s, "--managed")
	require.Equal(t, exitOK, code, found)
	require.Equal(t, "note", found["max-age"].Severity)
	require.Equal(t, "ok", found["pool-size"].Severity)
}

func TestDoctorAdvisesNoPoolSizeWithoutKnowingCallersAndRoundTrip(t *testing.T) {
	s := redistest.Start(t)
	require.NoError(t, s.Admin().ACLSetUser(t.Context(), "blind", "on", ">p4ss", "~*", "+@all", "-ping").Err())
	for _, size := range []string{"1", "5", "200", "5000"} {
		found, _ := examined(t, s, "--pool-size", size, "--processors", "2")
		require.Equal(t, "ok", found["pool-size"].Severity, size)
		require.Contains(t, found["pool-size"].What, "is not judged")
		_, stdout, _ := ask(t, []string{"doctor", "--json", "--pool-size", size, "--processors", "2", "--concurrency", "50", "--user", "blind", "-a", "p4ss"}, port(t, s)...)
		require.Contains(t, stdout, "is not judged", "nobody may measure the round trip")
	}
	// Near the server the number of callers does not show how many connections are busy at once; their rate does.
	near := func(args ...string) finding {
		found, _ := examined(t, s, append(args, "--processors", "2", "--concurrency", "64")...)
		return found["pool-size"]
	}
	for _, size := range []string{"5", "20", "64", "100"} {
		f := near("--pool-size", size)
		require.Equal(t, "ok", f.Severity, size)
		require.Contains(t, f.What, "is not judged: between 5 and 64 fit; with --rate")
	}
	small := near("--pool-size", "2")
	require.Equal(t, "warning", small.Severity)
	require.NotContains(t, small.Change, "PoolSize")
	require.Contains(t, small.Change, "--rate")
	large := near("--pool-size", "200")
	require.Equal(t, "note", large.Severity)
	require.Contains(t, large.Change, "PoolSize: 64")
	require.Contains(t, near("--pool-size", "8", "--rate", "1000").What, "PoolSize 8 fits")
	// A server far away keeps connections waiting for the network, not for processors.
	p := redistest.NewProxy(t, s.Addr())
	p.OnReply(func(int, []byte) redistest.Action { time.Sleep(3 * time.Millisecond); return redistest.Forward })
	_, far, err := net.SplitHostPort(p.Addr())
	require.NoError(t, err)
	_, stdout, stderr := call(t, "doctor", "--pool-size", "40", "--processors", "2", "--concurrency", "40", "-p", far)
	require.Empty(t, stderr)
	require.Contains(t, strings.Join(strings.Fields(stdout), " "), "PoolSize 40 fits: at a round trip of")
}

func TestDoctorKnowsASentinel(t *testing.T) {
	set := redistest.StartSentinel(t, "redis-server")
	host, p, err := net.SplitHostPort(set.Master().Addr())
	require.NoError(t, err)
	found, code := examined(t, set.Sentinels()[0])
	require.Equal(t, exitWarnings, code)
	require.Len(t, found, 1)
	require.Contains(t, found["sentinel"].What, "this is a Sentinel: ask it for the master")
	require.Contains(t, found["sentinel"].Change, "lifeguard doctor -h "+host+" -p "+p)
}

func TestDoctorSaysThingsOnceOfACluster(t *testing.T) {
	c := redistest.StartCluster(t, "redis-server", 3, 0)
	code, stdout, stderr := ask(t, []string{"doctor", "--json", "--cluster", "--pool-size", "200", "--processors", "2"}, port(t, c.Nodes()[0])...)
	require.Empty(t, stderr)
	require.Equal(t, exitWarnings, code)
	var got struct{ Findings []finding }
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	seen := map[string]int{}
	for _, f := range got.Findings {
		seen[f.ID]++
		require.Equal(t, 1, seen[f.ID], f.What)
		require.NotContains(t, f.Change, "redis.Options{")
	}
	require.Equal(t, 1, seen["pool-size"])
	require.Equal(t, 1, seen["maxclients-used"])
}

func TestDoctorSaysAllRightsThatAreMissingAtOnce(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "poor", "on", "nopass", "~*", "+get").Err())
		found, code := examined(t, s, "--managed", "--user", "poor", "-a", "x")
		require.Equal(t, "warning", found["not-checked"].Severity, "without INFO nearly nothing is known")
		require.Contains(t, found["not-checked"].Change, "ACL SETUSER poor +info +config|get +client|list")
		require.Equal(t, exitWarnings, code)
		require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "poor", "+info", "+config|get", "+client|list").Err())
		found, code = examined(t, s, "--managed", "--user", "poor", "-a", "x")
		require.NotContains(t, found, "not-checked")
		require.Equal(t, exitOK, code)
	})
}

func TestDoctorNotesAReplicaAndAFullMemory(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		found, _ := examined(t, s, "--managed")
		require.NotContains(t, found, "replica")
		require.NotContains(t, found, "maxmemory")
		require.NoError(t, s.Admin().ConfigSet(t.Context(), "maxmemory", "1").Err())
		found, code := examined(t, s, "--managed")
		require.Equal(t, "critical", found["maxmemory"].Severity)
		require.Contains(t, found["maxmemory"].Why, "OOM command not allowed")
		require.Equal(t, exitCritical, code)
		require.NoError(t, s.Admin().ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
		found, _ = examined(t, s, "--managed")
		require.NotContains(t, found, "maxmemory", "the server makes room itself")
		require.NoError(t, s.Admin().ConfigSet(t.Context(), "maxmemory", "0").Err())
		require.NoError(t, s.Admin().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
		found, code = examined(t, s, "--managed")
		require.Equal(t, "note", found["replica"].Severity)
		require.Contains(t, found["replica"].Why, "READONLY")
		require.Equal(t, exitOK, code)
	})
}

// Who follows all the advice at once has no finding left.
func TestTheSizesThatDoctorAdvisesFitTogether(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "50")
	found, _ := examined(t, s, "--managed", "--instances", "12", "--concurrency", "3", "--rate", "1")
	require.Contains(t, found["maxclients"].Change, "PoolSize: 3, PipelinePoolSize: -1", "three are needed, and 12 times that fit")
	require.Contains(t, found["pool-size"].Change, "PoolSize: 3}")
	found, code := examined(t, s, "--managed", "--instances", "12", "--concurrency", "3", "--rate", "1", "--pool-size", "3", "--pipeline-pool-size", "-1")
	require.Equal(t, "ok", found["pool-size"].Severity)
	require.Equal(t, exitOK, code, "%+v", found)

	// A pool that is too small, and would not fit in the size that is needed.
	found, _ = examined(t, s, "--managed", "--instances", "12", "--concurrency", "300", "--rate", "1", "--processors", "4", "--pool-size", "2", "--pipeline-pool-size", "-1")
	require.Contains(t, found["pool-size"].Change, "PoolSize: 9")
	require.Equal(t, "critical", found["maxclients"].Severity, "12 x 9 are more than 50")
	require.Contains(t, found["maxclients"].What, "PoolSize 9, which is needed")
	n, err := strconv.Atoi(maxClients.FindStringSubmatch(found["maxclients"].Change)[1])
	require.NoError(t, err)
	require.GreaterOrEqual(t, n*8, 12*9*10)
}

func TestDoctorNamesTheSmallPoolOfARunningProgram(t *testing.T) {
	s := redistest.Start(t)
	require.NoError(t, s.Admin().ACLSetUser(t.Context(), "blind", "on", ">p4ss", "~*", "+@all", "-ping").Err())
	running := func(pool, pipeline int) (*managed.Client, string) {
		opt := s.Options()
		opt.PoolSize, opt.PipelinePoolSize, opt.PoolTimeout = pool, pipeline, time.Minute
		rdb := managed.NewClient(opt, managed.WithMonitor(monitor.WithoutDefaults()))
		t.Cleanup(func() { _ = rdb.Close() })
		page, err := dashboard.New(rdb.PoolMonitor())
		require.NoError(t, err)
		mux := http.NewServeMux()
		mux.Handle("/debug/redis", page)
		web := httptest.NewServer(mux)
		t.Cleanup(web.Close)
		t.Cleanup(page.Close)
		return rdb, strings.TrimPrefix(web.URL, "http://") + "/debug/redis"
	}

	rdb, page := running(3, 2)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	found, _ := examined(t, s, "--managed", "--monitor", page)
	require.Equal(t, "ok", found["running-pool"].Severity)
	require.Contains(t, found["running-pool"].What, "no pool of the program at http://"+page+" is too small")
	require.Contains(t, found["running-pool"].What, "too little was seen", "and no size is advised")
	require.NotContains(t, found, "pool-size", "the running program is judged in its place")

	// Six callers at once and three connections: three of them get none.
	var held []*managed.Conn
	for range 3 {
		l, err := rdb.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, l)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 {
		wg.Go(func() { _ = rdb.Ping(ctx).Err() })
	}
	redistest.Eventually(t, "three wait", 30*time.Second, func() bool { return rdb.Stats().Waiting == 3 })
	cancel()
	wg.Wait()
	found, code := examined(t, s, "--managed", "--monitor", "http://"+page)
	f := found["running-pool"]
	require.Equal(t, exitWarnings, code)
	require.Equal(t, "warning", f.Severity)
	require.Contains(t, f.What, "the main pool of "+s.Addr()+" is too small for the program at http://"+page+": PoolSize 3, up to 6 callers at once")
	require.Regexp(t, `callers waited, p99 .*, and \d got no connection.*; the round trip is `, f.Why)
	require.Contains(t, f.Change, "PoolSize: 6")
	_, stdout, _ := ask(t, []string{"doctor", "--json", "--managed", "--monitor", page, "--user", "blind", "-a", "p4ss"}, port(t, s)...)
	require.Contains(t, stdout, "is too small")
	require.NotContains(t, stdout, "PoolSize: 6", "nobody may measure the round trip")
	for _, l := range held {
		l.Release()
	}

	// A full pool of which no size is known to be right is named, and what to open.
	other, page := running(4, 1)
	go func() {
		_, _ = other.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.BLPop(t.Context(), 0, "none"); return nil })
	}()
	redistest.Eventually(t, "the pipeline waits", 30*time.Second, func() bool { return other.Stats().Pipeline.InUse == 1 })
	found, _ = examined(t, s, "--managed", "--monitor", page)
	f = found["running-pool"]
	require.Contains(t, f.What, "the pipeline pool of "+s.Addr()+" of the program at http://"+page+" is full: 1 of 1 in use")
	require.Contains(t, f.Change, "open http://"+page)
	require.NotContains(t, f.Change, "PoolSize")

	for addr, want := range map[string]string{"127.0.0.1:1/debug": "connection refused", page + "/none": "HTTP 404", "ftp://x": "want the address of a page"} {
		code, stdout, stderr := ask(t, []string{"doctor", "--managed", "--monitor", addr}, port(t, s)...)
		require.Equal(t, exitFailed, code, addr)
		require.Contains(t, stderr, "not everything could be checked: --monitor: ")
		require.Contains(t, stderr, want)
		require.Contains(t, stdout, "Round trip", "the other checks were run")
	}
}
