package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// terminal runs a program on a pseudo-terminal.
type terminal struct {
	t   *testing.T
	pty *os.File
	cmd *exec.Cmd

	mu   sync.Mutex
	seen bytes.Buffer
	end  chan struct{}
}

func onTerminal(t *testing.T, columns, lines uint16, name string, args ...string) *terminal {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pty.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines}))
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	require.NoError(t, tty.Close())
	x := &terminal{t: t, pty: pty, cmd: cmd, end: make(chan struct{})}
	go func() {
		defer close(x.end)
		buf := make([]byte, 4096)
		for {
			n, err := pty.Read(buf)
			x.mu.Lock()
			x.seen.Write(buf[:n])
			x.mu.Unlock()
			if err != nil { // the program has ended
				return
			}
		}
	}()
	return x
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seen.String()
}

// answer waits for text and types.
func (x *terminal) answer(text, keys string) {
	x.t.Helper()
	require.Eventually(x.t, func() bool { return strings.Contains(x.text(), text) }, 20*time.Second, 5*time.Millisecond, "waits for %q", text)
	_, err := x.pty.WriteString(keys)
	require.NoError(x.t, err)
}

// wait is for the end of the program, and returns its exit code.
func (x *terminal) wait() int {
	<-x.end
	_ = x.cmd.Wait()
	return x.cmd.ProcessState.ExitCode()
}

func TestKillAsksOnATerminalAndEndsOnlyThoseThatItShowed(t *testing.T) {
	s := redistest.Start(t)
	bin := build(t)
	c := connect(t, s, "web-1", "job")
	ids := map[string]int64{"web-1": id(t, c["web-1"]), "job": id(t, c["job"])}
	args := append([]string{"clients", "--kill", "--name", "web-*"}, port(t, s)...)
	require.Eventually(t, func() bool { // the server counts whole seconds
		_, stdout, _ := call(t, append(args, "--dry-run")...)
		return strings.Contains(stdout, "Would close 1 of")
	}, 10*time.Second, 50*time.Millisecond)

	for _, no := range []string{"n\r", "\r", "yess\r", "\x03"} { // the last is Ctrl-C
		x := onTerminal(t, 80, 24, bin, args...)
		x.answer("Close 1 client of "+s.Addr()+"? [y/N] ", no)
		require.Equal(t, exitOK, x.wait(), x.text())
		require.Contains(t, x.text(), "web-1")
		require.Contains(t, x.text(), "Nothing was closed.")
		require.Equal(t, ids["web-1"], id(t, c["web-1"]))
	}
	x := onTerminal(t, 80, 24, bin, args...)
	x.answer("? [y/N] ", "")
	later := connect(t, s, "web-2") // was not shown
	laterID := id(t, later["web-2"])
	require.Eventually(t, func() bool {
		_, stdout, _ := call(t, append(args, "--dry-run")...)
		return strings.Contains(stdout, "Would close 2 of")
	}, 10*time.Second, 50*time.Millisecond)
	x.answer("? [y/N] ", "y\r")
	require.Equal(t, exitOK, x.wait(), x.text())
	require.Contains(t, x.text(), "Closed 1 of")
	require.NotEqual(t, ids["web-1"], id(t, c["web-1"]))
	require.Equal(t, laterID, id(t, later["web-2"]))
	require.Equal(t, ids["job"], id(t, c["job"]))
}

func TestTopRunsOnATerminal(t *testing.T) {
	s := redistest.Start(t)
	connect(t, s, "web-1")
	x := onTerminal(t, 80, 24, build(t), append([]string{"top", "--every", "100ms"}, port(t, s)...)...)
	x.answer("web-1", "K")
	x.answer("y: yes", "y")
	x.answer("Killed", "q")
	require.Equal(t, exitOK, x.wait(), x.text())
}
