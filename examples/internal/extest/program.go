// Package extest runs the examples in tests.
package extest

import (
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Program is an example that runs.
type Program struct {
	t     testing.TB
	ctrlC context.CancelFunc
	ended chan struct{}
	err   error

	mu    sync.Mutex
	text  strings.Builder
	wrote chan struct{} // has a place for one
}

// Start runs an example until it ends, or the test does.
func Start(t testing.TB, run func(ctx context.Context, args []string, out io.Writer) error, args ...string) *Program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Program{t: t, ctrlC: cancel, ended: make(chan struct{}), wrote: make(chan struct{}, 1)}
	go func() {
		defer close(p.ended)
		p.err = run(ctx, args, p)
	}()
	t.Cleanup(func() { cancel(); <-p.ended })
	return p
}

// Write takes the program's output.
func (p *Program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	select {
	case p.wrote <- struct{}{}:
	default:
	}
	return len(b), nil
}

// Output is what the program has written.
func (p *Program) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// Find waits for something in the output, and returns it.
func (p *Program) Find(pattern string) string {
	p.t.Helper()
	late := time.After(30 * time.Second)
	for re := regexp.MustCompile(pattern); ; {
		if s := re.FindString(p.Output()); s != "" {
			return s
		}
		select {
		case <-p.wrote:
		case <-p.ended:
			if s := re.FindString(p.Output()); s != "" {
				return s
			}
			p.t.Fatalf("it ended (%v) and did not write %q but:\n%s", p.err, pattern, p.Output())
		case <-late:
			p.t.Fatalf("it did not write %q but:\n%s", pattern, p.Output())
		}
	}
}

// CtrlC ends the program as Ctrl-C does.
func (p *Program) CtrlC() { p.ctrlC() }

// Wait waits for its end and returns its error.
func (p *Program) Wait() error {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(time.Minute):
		p.t.Fatalf("it does not end, and has written:\n%s", p.Output())
		return nil
	}
}
