package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest/program"
)

func TestArgumentsGoToGoTestAndThePackagesAmongThemReplaceAll(t *testing.T) {
	common := []string{"test", "-json", "-race", "-shuffle=on", "-p", "1"}
	for _, c := range []struct{ given, want []string }{
		{nil, []string{"work"}},
		{[]string{"-run", "Lease"}, []string{"work", "-run", "Lease"}},
		{[]string{"-run", "Lease", "./managed", "./retry"}, []string{"-run", "Lease", "./managed", "./retry"}},
		{[]string{modulePath + "/managed/..."}, []string{modulePath + "/managed/..."}},
		{[]string{"-short", "-args", "./x", "--allow-skips"}, []string{"work", "-short", "-args", "./x", "--allow-skips"}},
	} {
		allow, got := arguments(c.given)
		assert.Equal(t, append(common[:6:6], c.want...), got)
		assert.False(t, allow)
	}
	allow, got := arguments([]string{"--allow-skips", "./managed"})
	assert.True(t, allow)
	assert.Equal(t, append(common[:6:6], "./managed"), got)
}

// withoutServers is a machine without any server and with next to nothing else.
func withoutServers(t *testing.T) (path string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("scripts/test is a shell script")
	}
	for _, v := range []string{"LIFEGUARD_REDIS_URL", "LIFEGUARD_REDIS_BIN", "LIFEGUARD_VALKEY_BIN", "LIFEGUARD_NO_CONTAINER"} {
		t.Setenv(v, "")
	}
	path = t.TempDir()
	t.Setenv("PATH", path)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	return path
}

// goes is a go command that gives these events of test2json.
func goes(t *testing.T, path, events, status string) {
	t.Helper()
	file := filepath.Join(path, "events")
	require.NoError(t, os.WriteFile(file, []byte(events), 0o600))
	script := "#!/bin/sh\nwhile read -r line; do printf '%s\\n' \"$line\"; done <" + file + "\nexit " + status + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(path, "go"), []byte(script), 0o700))
}

const skips = `{"Action":"run","Package":"` + modulePath + `/managed","Test":"TestA"}
{"Action":"output","Package":"` + modulePath + `/managed","Test":"TestA","Output":"    a_test.go:7: no redis-server on PATH\n"}
{"Action":"skip","Package":"` + modulePath + `/managed","Test":"TestA"}
{"Action":"pass","Package":"` + modulePath + `/managed","Test":"TestB"}
{"Action":"pass","Package":"` + modulePath + `/managed","Elapsed":1.5}
`

func TestWithoutAServerNothingIsRunAndTheErrorSaysWhatToDo(t *testing.T) {
	path := withoutServers(t)
	goes(t, path, skips, "0")
	var out bytes.Buffer
	err := run(t.Context(), nil, &out, io.Discard)
	require.ErrorContains(t, err, "no redis-server: not on PATH")
	if runtime.GOOS == "darwin" {
		require.ErrorContains(t, err, "brew install redis")
	} else {
		require.ErrorContains(t, err, "no container engine")
		require.ErrorContains(t, err, "no apt-get")
	}
	require.ErrorContains(t, err, "set LIFEGUARD_REDIS_BIN")
	assert.Empty(t, out.String())
}

func TestSkippedTestsFailUnlessTheyAreAllowed(t *testing.T) {
	path := withoutServers(t)
	goes(t, path, skips, "0")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"--allow-skips"}, &out, io.Discard))
	assert.Contains(t, out.String(), "no redis-server: not on PATH")
	assert.Contains(t, out.String(), "SKIPPED: no redis-server on PATH: TestA in ./managed\n")
	assert.Regexp(t, `(?m)^ok   \./managed +1\.5 s  1 passed, 1 skipped$`, out.String())
	assert.Regexp(t, `\n1 passed, 0 failed, 1 skipped\n$`, out.String())

	for _, p := range program.All { // any program that says its version
		file := filepath.Join(path, p.Name)
		require.NoError(t, os.WriteFile(file, []byte("#!/bin/sh\necho 'Redis server v=7.0.15 sha=0'\n"), 0o700))
	}
	out.Reset()
	require.ErrorIs(t, run(t.Context(), nil, &out, io.Discard), errFailed)
	assert.Contains(t, out.String(), "redis-server: 7.0.15, from PATH\nNOTE: this Redis is older than 8")
	assert.Contains(t, out.String(), "--allow-skips")
	assert.Regexp(t, `\n1 passed, 0 failed, 1 skipped\n$`, out.String())
}

func TestAVariableThatLeadsNowhereIsAnErrorThatNamesIt(t *testing.T) {
	withoutServers(t)
	var out bytes.Buffer
	t.Setenv("LIFEGUARD_REDIS_BIN", "/nowhere/redis-server")
	for _, args := range [][]string{nil, {"--allow-skips"}} {
		require.ErrorContains(t, run(t.Context(), args, &out, io.Discard), "LIFEGUARD_REDIS_BIN=/nowhere/redis-server")
	}
	t.Setenv("LIFEGUARD_REDIS_URL", "redis://:secret@127.0.0.1:1")
	err := run(t.Context(), nil, &out, io.Discard)
	require.ErrorContains(t, err, "LIFEGUARD_REDIS_URL: no answer from 127.0.0.1:1")
	require.NotContains(t, err.Error(), "secret")
}

func TestItTellsWhichServersItTook(t *testing.T) {
	s := redistest.Start(t)
	t.Setenv("LIFEGUARD_REDIS_BIN", redistest.Binary(t, "redis-server"))
	t.Setenv("LIFEGUARD_VALKEY_BIN", redistest.Binary(t, "valkey-server"))
	t.Setenv("LIFEGUARD_REDIS_URL", "redis://"+s.Addr())
	var out bytes.Buffer
	env, err := servers(t.Context(), &out, false)
	require.NoError(t, err)
	require.Len(t, env, 2)
	assert.Regexp(t, `(?m)^shared server: \d+\.\d+\.\d+, from LIFEGUARD_REDIS_URL$`, out.String())
	assert.Regexp(t, `(?m)^redis-server: \d+\.\d+\.\d+, from LIFEGUARD_REDIS_BIN$`, out.String())
	assert.Regexp(t, `(?m)^valkey-server: \d+\.\d+\.\d+, from LIFEGUARD_VALKEY_BIN$`, out.String())
}

func TestAProgramOfAnImageStartsWithTheLibrariesOfItsImage(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{"usr/local/bin/redis-server", "usr/lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o700))
		// The loader tells what it is given.
		require.NoError(t, os.WriteFile(filepath.Join(root, file), []byte("#!/bin/sh\necho \"$@\"\n"), 0o700))
	}
	wrapper := filepath.Join(t.TempDir(), "redis-server")
	require.ErrorContains(t, wrap(root, wrapper, "valkey-server"), "has no valkey-server")
	require.NoError(t, wrap(root, wrapper, "redis-server"))
	if runtime.GOOS == "windows" {
		return
	}
	out, err := exec.Command(wrapper, "--version").Output()
	require.NoError(t, err)
	assert.Regexp(t, `^--library-path .*/usr/lib/x86_64-linux-gnu:\S* .*/usr/local/bin/redis-server --version\n$`, string(out))
}
