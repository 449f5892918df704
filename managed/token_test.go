package managed_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// The argument of a visit's ping is known to the connection alone.
func TestNoServerEverGetsTheTokenOfAVisit(t *testing.T) {
	s := redistest.Start(t, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000")
	monitor, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer monitor.Close()
	_, err = monitor.Write([]byte("MONITOR\r\n"))
	require.NoError(t, err)
	lines := bufio.NewReader(monitor)
	require.NoError(t, monitor.SetDeadline(time.Now().Add(soon)))
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "+OK\r\n", line)

	ctx := t.Context()
	opt := s.Options()
	opt.PoolSize, opt.MinIdleConns = 6, 2
	c := client(t, opt, managed.WithValidateAfter(0), managed.WithHeartbeat(20*time.Millisecond), managed.WithMaxAge(300*time.Millisecond),
		managed.WithBlockingPool(1))
	clone := c.WithTimeout(time.Second)
	for begin := time.Now(); time.Since(begin) < 600*time.Millisecond; {
		for _, c := range []*managed.Client{c, clone} {
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			require.NoError(t, conn.Do(ctx, "multi").Err())
			conn.Release() // which is undone
			require.NoError(t, c.Watch(ctx, incr, "n"))
			_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); p.Incr(ctx, "n"); return nil })
			require.NoError(t, err)
		}
	}
	c.Reset(ctx)
	_, err = c.Warm(ctx, 4)
	require.NoError(t, err)
	require.NoError(t, s.Admin().Echo(ctx, "over").Err())
	seen := 0
	for line = ""; !strings.Contains(line, `"over"`); {
		line, err = lines.ReadString('\n')
		require.NoError(t, err)
		if _, cmd, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(strings.ToLower(cmd), `"ping"`) {
			require.Equal(t, `"ping"`, strings.ToLower(strings.TrimSpace(cmd)))
			seen++
		}
		require.NotRegexp(t, `[0-9a-f]{40}"`, strings.ReplaceAll(line, "script", ""))
	}
	require.NotZero(t, seen, "no real PING was sent at all")
	logged, err := s.Admin().SlowLogGet(ctx, -1).Result()
	require.NoError(t, err)
	for _, entry := range logged {
		if strings.EqualFold(entry.Args[0], "ping") {
			require.Len(t, entry.Args, 1, fmt.Sprint(entry.Args))
		}
	}
	require.Greater(t, len(logged), 100)
}
