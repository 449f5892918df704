package peers_test

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// What an idle connection holds of the heap: that of a whole client with its
// connections, divided by their number as the server counts them.
func TestMemoryOfIdleConnectionsIsCompared(t *testing.T) {
	s := redistest.Start(t, "--enable-debug-command", "yes")
	small := subject{name: "lifeguard (managed), WithBuffers of 4 KiB", open: func(t *testing.T, addr string) client {
		c := managed.NewClient(&redis.Options{Addr: addr, ReadTimeout: replyLimit}, managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
			managed.WithBuffers(managed.Buffers{Read: 4096, Write: 4096}))
		return managedClient(c, c)
	}}
	var out strings.Builder
	fmt.Fprintf(&out, "One run, %s. After as many calls at once as the client lets through, with nothing more to do.\n\n", runtime.Version())
	fmt.Fprintf(&out, "| | connections | KiB of heap for each |\n|---|---|---|\n")
	for _, sub := range append(subjects(), small) {
		if sub.name == "go-redis AutoPipeline" || sub.name == "lifeguard (Adaptive)" {
			continue // the pools of the client below
		}
		first := sub.open(t, s.Addr()) // what is made once for the process
		crowd(t, s, first)
		first.close()
		redistest.Eventually(t, "its connections are closed", 10*time.Second, func() bool { return s.NumClients(t) == 0 })
		before := heap()
		c := sub.open(t, s.Addr())
		crowd(t, s, c)
		n := s.NumClients(t)
		each := float64(int64(heap())-int64(before)) / float64(max(n, 1)) / 1024
		fmt.Fprintf(&out, "| %s | %d | %.1f |\n", sub.name, n, each)
		if n == 0 {
			t.Errorf("%s: no connection is open", sub.name)
		}
		c.close()
		redistest.Eventually(t, "its connections are closed", 10*time.Second, func() bool { return s.NumClients(t) == 0 })
	}
	t.Log("\n" + out.String())
	if *write && *measure {
		put(t, "../../docs/PERFORMANCE.md", "the table of memory", out.String())
	}
}

// crowd has many callers wait at once for a server that sleeps.
func crowd(t *testing.T, s *redistest.Server, c client) {
	t.Helper()
	asleep := make(chan struct{})
	go func() {
		defer close(asleep)
		s.Admin().Do(t.Context(), "DEBUG", "SLEEP", "0.3")
	}()
	time.Sleep(50 * time.Millisecond)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() { _ = c.get(t.Context(), "k") })
	}
	wg.Wait()
	<-asleep
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
