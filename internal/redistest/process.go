package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	host         = "127.0.0.1"
	startTimeout = 15 * time.Second
	portTries    = 10
)

var errPortTaken = errors.New("address already in use")

// process is one server program: its folder, its command line, and its run
// state. It keeps no goroutine, so that goleak in the tests sees only theirs.
type process struct {
	bin  string
	args []string
	dir  string

	mu    sync.Mutex
	cmd   *exec.Cmd
	still bool     // stopped by a signal
	alive *os.File // the read end of a pipe whose write end only the server holds
}

func newProcess(bin string) (*process, error) {
	// Not t.TempDir: its path carries the test's name, and a Unix socket's
	// path may have 107 bytes at most.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, fmt.Errorf("redistest: folder for a server: %w", err)
	}
	return &process{bin: bin, dir: dir}, nil
}

func (p *process) unix() string    { return filepath.Join(p.dir, "sock") }
func (p *process) logFile() string { return filepath.Join(p.dir, "log") }

// start runs the program and returns once it answers on its Unix socket. That
// socket is in a folder of our own, so the answer cannot be somebody else's,
// and a server opens it only after it has got all its ports.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("redistest: %s is already running", p.bin)
	}
	logf, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("redistest: log of a server: %w", err)
	}
	defer logf.Close()
	before, err := logf.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("redistest: log of a server: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("redistest: pipe to a server: %w", err)
	}
	cmd := exec.Command(p.bin, p.args...)
	cmd.Dir = p.dir
	cmd.Stderr = logf
	cmd.ExtraFiles = []*os.File{w}
	endWithParent(cmd)
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return fmt.Errorf("redistest: starting %s: %w", p.bin, err)
	}
	p.cmd, p.alive = cmd, r

	for deadline := time.Now().Add(startTimeout); ; {
		if answers(p.unix()) {
			return nil
		}
		exited := p.exitedWithin(5 * time.Millisecond)
		if !exited && time.Now().Before(deadline) {
			continue
		}
		what := "gave no answer within " + startTimeout.String()
		if exited {
			what = "ended at once"
		}
		p.killLocked()
		out := p.logSince(before)
		if strings.Contains(out, "Address already in use") {
			return fmt.Errorf("redistest: %s: %w", p.bin, errPortTaken)
		}
		return fmt.Errorf("redistest: %s %s\nargs: %q\nlog:\n%s", p.bin, what, p.args, tail(out, 30))
	}
}

// exitedWithin waits for the end of the process, for d at most: the pipe's
// write end is closed with it.
func (p *process) exitedWithin(d time.Duration) bool {
	p.alive.SetReadDeadline(time.Now().Add(d))
	_, err := p.alive.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killLocked()
}

func (p *process) killLocked() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	p.cmd.Wait() // SIGKILL ends it even when it is stopped
	p.alive.Close()
	p.cmd, p.alive, p.still = nil, nil, false
}

// signal sends the signal that stops the process, or lets it go on.
func (p *process) signal(sig os.Signal, still bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("redistest: signal %v: %s is not running", sig, p.bin)
	}
	p.still = still
	return p.cmd.Process.Signal(sig)
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !p.still
}

// remove ends the process and its folder.
func (p *process) remove() {
	p.kill()
	os.RemoveAll(p.dir)
}

func (p *process) logSince(off int64) string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b[min(off, int64(len(b))):])
}

// answers reports whether a server replies on a Unix socket. An error reply
// (no password, no permission) is an answer too; LOADING is not one yet.
func answers(sock string) bool {
	c, err := net.DialTimeout("unix", sock, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadBytes('\n')
	return err == nil && !bytes.HasPrefix(line, []byte("-LOADING"))
}

// freePorts finds n ports that nobody listens on. They lie below the range
// from which the kernel takes the ports of outgoing connections: a port from
// that range could be taken by any client while its server is being restarted.
func freePorts(n int) ([]int, error) {
	var ports []int
	for try := 0; len(ports) < n; try++ {
		if try == 1000 {
			return nil, fmt.Errorf("redistest: no free port on %s after %d tries", host, try)
		}
		port := 10000 + rand.IntN(22000)
		l, err := net.Listen("tcp", addrOf(port))
		if err != nil {
			continue
		}
		defer l.Close() // only at the end, so that no port is taken twice
		ports = append(ports, port)
	}
	return ports, nil
}

func addrOf(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
