package redistest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// fakeT stands in for a test that is expected to fail or to skip.
type fakeT struct {
	testing.TB
	fatal, skip string
	cleanups    []func()
}

// outcome runs f as a separate test and returns its result.
func outcome(t *testing.T, f func(t testing.TB)) *fakeT {
	t.Helper()
	ft := &fakeT{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			for i := len(ft.cleanups) - 1; i >= 0; i-- {
				ft.cleanups[i]()
			}
		}()
		f(ft)
	}()
	<-ended
	return ft
}

func (f *fakeT) Helper()           {}
func (f *fakeT) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }
func (f *fakeT) Fatal(args ...any) {
	f.fatal = strings.TrimSpace(fmt.Sprintln(args...))
	runtime.Goexit()
}
func (f *fakeT) Skip(args ...any) {
	f.skip = strings.TrimSpace(fmt.Sprintln(args...))
	runtime.Goexit()
}
func (f *fakeT) Fatalf(format string, args ...any) {
	f.Fatal(fmt.Sprintf(format, args...))
}
