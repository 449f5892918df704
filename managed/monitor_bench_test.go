package managed_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// A look at a client with 1000 connections: the numbers, and the table of them.
func BenchmarkALookAtAThousandConnections(b *testing.B) {
	s := redistest.Start(b)
	c := client(b, sized(s, 1000, 10*time.Second))
	n, err := c.Warm(b.Context(), 1000)
	require.NoError(b, err)
	require.Equal(b, 1000, n)
	b.Run("Stats", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Stats()
		}
	})
	b.Run("Connections", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.PoolMonitor().Connections()
		}
	})
}

// What is counted for one command.
func BenchmarkCountingACommand(b *testing.B) {
	c := client(b, &redis.Options{Addr: "127.0.0.1:1"})
	took := c.Took()
	b.ReportAllocs()
	for b.Loop() {
		took()
	}
}
