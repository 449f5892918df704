package server_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
)

func TestAFullServerIsSaidToBeFull(t *testing.T) {
	t.Parallel()
	for name, start := range redistest.Servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "--maxclients", "5")
			_ = s.Admin().Ping(bg)
			for range 5 { // until there is no room
				conn, err := net.Dial("tcp", s.Addr())
				require.NoError(t, err)
				defer conn.Close()
			}
			opt := s.Options()
			opt.MaxRetries = -1
			opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				time.Sleep(30 * time.Millisecond) // so that the server has closed it before anything is written
				return conn, err
			}
			plain := redis.NewClient(opt)
			defer plain.Close()
			for range 5 {
				_, err := server.Get(bg, plain)
				assert.ErrorContains(t, err, "max number of clients reached")
			}
			ctx, cancel := context.WithCancel(bg)
			_ = server.Watch(ctx, plain, time.Hour, func(_ []server.Sample, err error) {
				assert.ErrorContains(t, err, "max number of clients reached")
				cancel()
			})
		})
	}
}
