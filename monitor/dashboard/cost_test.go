package dashboard_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

// sink is a viewer that takes everything.
type sink struct {
	head http.Header
	n    int
}

func (s *sink) Header() http.Header         { return s.head }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Flush()                      {}
func (s *sink) Write(b []byte) (int, error) { s.n += len(b); return len(b), nil }

// TestTheCostOfThePage measures what docs/MONITORING.md says, on request: the CPU of the
// whole process while one viewer looks at 1000 connections of a managed client, ten
// times a second, at the table of them.
//
//	LIFEGUARD_MEASURE=1 go test -count=1 -v -run TestTheCostOfThePage ./monitor/dashboard
func TestTheCostOfThePage(t *testing.T) {
	if os.Getenv("LIFEGUARD_MEASURE") == "" {
		return // it tests nothing
	}
	opt := redistest.Start(t, "--maxclients", "2000").Options()
	opt.PoolSize = 1000
	rdb, err := managed.New(opt)
	require.NoError(t, err)
	defer rdb.Close()
	var held []*managed.Conn
	for range opt.PoolSize {
		c, err := rdb.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, c)
	}
	for i, c := range held {
		if i >= 20 {
			c.Release()
		} else {
			defer c.Release()
		}
	}
	require.Len(t, rdb.Conns(), 1000)
	const whole = 10 * time.Second
	measure := func(what string, want string) {
		h, err := dashboard.New(rdb.PoolMonitor(), dashboard.WithInterval(100*time.Millisecond))
		require.NoError(t, err)
		defer h.Close()
		ctx, cancel := context.WithTimeout(t.Context(), whole)
		defer cancel()
		out := &sink{head: http.Header{}}
		before := cpu(t)
		if want == "nobody" {
			<-ctx.Done()
		} else {
			h.ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/?get=stream&want="+want, nil).WithContext(ctx))
		}
		used := cpu(t) - before
		fmt.Printf("%s: %.2f %% of a core, %.1f kB/s\n", what, 100*used.Seconds()/whole.Seconds(), float64(out.n)/1000/whole.Seconds())
	}
	measure("nobody looks", "nobody")
	measure("charts, 10 a second", "")
	measure("charts and leases", "leases")
	measure("charts and 1000 connections", "conns")
}
