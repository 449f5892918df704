package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// call runs the program inside the test.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"lifeguard"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestAWrongCommandLineIsSaidAndExitsWith2(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"nope"}, `no command "nope"`},
		{[]string{"clinets"}, `no command "clinets"; did you mean clients?`},
		{[]string{"version"}, "did you mean --version?"},
		{[]string{"completion", "tcsh"}, `no completion for "tcsh"; there is bash, zsh, fish and pwsh`},
		{[]string{"xyzzy"}, "no command \"xyzzy\"\n"},
		{[]string{"-nope"}, "-nope"},
		{[]string{"demo", "-nope"}, "-nope"},
		{[]string{"demo", "--nope"}, "-nope"},
		{[]string{"demo", "-for"}, "-for"},
		{[]string{"demo", "-for", "ages"}, "--for: 'ages' is not a time; want one like 90s, 30m or 1h30m"},
		{[]string{"demo", "-for", "0s"}, "-for 0s: must be above 0"},
		{[]string{"demo", "-for=-1s"}, "-for -1s: must be above 0"},
		{[]string{"demo", "more"}, `no argument, got "more"`},
		{[]string{"demo", "-addr", "localhost"}, `-addr "localhost": want host:port`},
		{[]string{"demo", "-addr", ""}, `-addr "": want host:port`},
		{[]string{"demo", "-addr", "a:1", "-url", "redis://b:2"}, "-addr and -url exclude each other"},
		{[]string{"demo", "-http", "8080"}, `-http "8080": want HOST:PORT`},
		{[]string{"demo", "-http", ""}, `-http "": want HOST:PORT`},
		{[]string{"demo", "-http", "localhost:"}, `-http "localhost:": want HOST:PORT`},
		{[]string{"demo", "-url", "http://x"}, "-url: malformed: its scheme is not redis, rediss or unix; want redis://"},
		{[]string{"demo", "-url", ""}, "-url: malformed: it is empty"},
		{[]string{"top", "-u", "localhost:6379"}, "--url is malformed: it does not begin with a scheme"},
		{[]string{"top", "-u", "redis://u:sec%ret@h"}, "--url is malformed: the port is not a number, or characters"},
		{[]string{"top", "-u", "redis://h:6379/x"}, "--url is malformed: what follows host and port is not the number of a database"},
		{[]string{"top", "-u", "redis://h:6379?pool=1"}, "--url is malformed: an option after the ? is unknown"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			code, stdout, stderr := call(t, tt.args...)
			require.Equal(t, exitUsage, code)
			require.Contains(t, stderr, tt.want)
			require.Empty(t, stdout)
			require.Equal(t, 1, strings.Count(stderr, "lifeguard:"), "said once: %s", stderr)
		})
	}
}

func TestAPasswordInAMalformedURLIsNotShown(t *testing.T) {
	for _, url := range []string{"redis://u:sec%ret@h:1", "redis://u:sec/ret@h:1/x", "u:secret@h", "redis://u:p@h:1/?secret=1"} {
		code, stdout, stderr := call(t, "demo", "-url", url)
		require.Equal(t, exitUsage, code, url)
		require.NotContains(t, stdout+stderr, "sec", url)
	}
}

func TestFlagsAreTakenWithOneDashAndWithTwo(t *testing.T) {
	for _, args := range [][]string{
		{"demo", "-addr", "127.0.0.1:1", "-for", "1s"}, {"demo", "--addr", "127.0.0.1:1", "--for", "1s"},
		{"demo", "-addr=127.0.0.1:1"}, {"demo", "--addr=127.0.0.1:1"},
		{"demo", "-url", "redis://127.0.0.1:1/0"}, {"demo", "--url=redis://127.0.0.1:1/0"},
	} {
		code, _, stderr := call(t, args...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "no answer from 127.0.0.1:1")
	}
}

func TestAnUnreachableServerIsSaidQuickly(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	require.NoError(t, err)
	defer ln.Close()
	for _, addr := range []string{"127.0.0.1:1", ln.Addr().String()} {
		began := time.Now()
		code, _, stderr := call(t, "demo", "-addr", addr)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "no answer from "+addr)
		require.Less(t, time.Since(began), 6*time.Second)
	}
}

func TestHelpHasExamplesAndExitsWith0(t *testing.T) {
	for args, want := range map[string]string{"": "demo", "-h": "Exit codes: 0", "--help": "demo", "help demo": "lifeguard demo -addr localhost:6379",
		"demo -h": "--for", "demo --help": "rediss://"} {
		code, stdout, stderr := call(t, strings.Fields(args)...)
		require.Equal(t, exitOK, code, args)
		require.Contains(t, stdout, want, args)
		require.Empty(t, stderr, args)
	}
}

func TestThereIsACompletionForEachShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "pwsh"} {
		code, stdout, _ := call(t, "completion", shell)
		require.Equal(t, exitOK, code, shell)
		require.Contains(t, stdout, "--generate-shell-completion", shell)
	}
}

func TestCancellingTheContextEndsTheDemoAndSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	var out, errs bytes.Buffer
	require.Equal(t, exitOK, run(ctx, []string{"lifeguard", "demo", "-for", "1m"}, &out, &errs))
	require.Contains(t, out.String(), "ended early as asked")
	require.Empty(t, errs.String())
}

// build compiles the program as users get it.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program")
	}
	bin := filepath.Join(t.TempDir(), "lifeguard.exe")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return bin
}

func TestTheProgramRunsTheDemo(t *testing.T) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), build(t), "demo", "-for", "1s")
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), errs.String()+out.String())
	require.Empty(t, errs.String())
	require.NotContains(t, out.String(), "\x1b", "no escape codes where output is not a terminal")
	require.Contains(t, out.String(), "Where to look next")
}

func TestCtrlCEndsTheProgramAndSaysSoWithExitCode0(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a program cannot be interrupted there")
	}
	bin := build(t)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, time.Second} {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), bin, "demo", "-for", "1m")
		first := make(chan struct{})
		cmd.Stdout, cmd.Stderr = &signalWriter{buf: &out, first: first}, &errs
		require.NoError(t, cmd.Start())
		select {
		case <-first: // it has begun
		case <-time.After(30 * time.Second):
			t.Fatal("the demo did not begin")
		}
		time.Sleep(after)
		began := time.Now()
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait(), errs.String()+out.String())
		require.Less(t, time.Since(began), 10*time.Second)
		require.Contains(t, out.String(), "ended early as asked")
		require.Empty(t, errs.String())
	}
}

// signalWriter closes first at the first Write.
type signalWriter struct {
	buf   *bytes.Buffer
	first chan struct{}
}

func (w *signalWriter) Write(b []byte) (int, error) {
	if w.buf.Len() == 0 {
		close(w.first)
	}
	return w.buf.Write(b)
}
