package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
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
	s := redistest.Start(t, "--timeout", "60", "--tcp-keepalive", "0", "--maxclients", "100")
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
		{"", "retries", "note", "may have been carried out"},
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
	s := redistest.Start(t, "--maxclients", "100")
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
	_, stdout, _ = ask(t, []string{"doctor", "--max-age", "500ms", "--max-idle", "250ms"}, port(t, s)...)
	require.Contains(t, strings.Join(strings.Fields(stdout), " "), "maximum age 500ms, idle time 250ms")
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
}
