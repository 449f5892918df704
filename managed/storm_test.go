package managed_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestAnAcquireWhoseNewConnectionIsCutGetsTheNextOne(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.OnRequest(func(connN int, _ []byte) redistest.Action {
		if connN < 3 {
			return redistest.CutBefore // in its handshake
		}
		return redistest.Forward
	})
	opt := s.Options()
	opt.Addr = p.Addr()
	c := client(t, opt)
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Ping(t.Context()).Err())
	conn.Release()
}

func TestAcquiresRideOutAStormOfCutConnections(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 20
	c := client(t, opt)
	_, err := c.Warm(t.Context(), 20)
	require.NoError(t, err)
	end := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	var served [8]atomic.Int64
	for i := range served {
		wg.Go(func() {
			for time.Now().Before(end) {
				err := c.AcquireFunc(t.Context(), func(*managed.Conn) error { return nil })
				if err != nil {
					t.Error(err)
					return
				}
				served[i].Add(1)
			}
		})
	}
	for time.Now().Before(end) {
		p.CutAll()
		time.Sleep(20 * time.Millisecond)
		for i := range served { // a machine that is busy needs longer for a handshake
			for n := served[i].Load(); served[i].Load() == n && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	wg.Wait()
}
