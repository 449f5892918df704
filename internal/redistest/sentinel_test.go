package redistest_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestSentinelsServeFailOverAndReplaceALostMaster(t *testing.T) {
	t.Parallel()
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			s := redistest.StartSentinel(t, program)
			t.Logf("3 servers and 3 Sentinels after %v", time.Since(began))
			require.Len(t, s.Addrs(), 3)
			require.Equal(t, s.Nodes()[0], s.Master())

			rdb := redis.NewFailoverClient(s.Options())
			defer rdb.Close()
			require.NoError(t, rdb.Set(ctx, "k", "v", 0).Err())
			assert.Equal(t, "v", s.Master().Admin().Get(ctx, "k").Val())

			began = time.Now()
			first := s.Master()
			second := s.Failover()
			assert.NotEqual(t, first, second)
			t.Logf("failover in good order took %v", time.Since(began))

			began = time.Now()
			second.Pause()
			third := s.NextMaster(second)
			t.Logf("a paused master was replaced after %v", time.Since(began))
			second.Resume()
			s.Settle()
			assert.Equal(t, third, s.Master())

			s.Sentinels()[0].Kill()
			require.NoError(t, rdb.Set(ctx, "k", "w", 0).Err())
			s.Sentinels()[0].Restart()
			s.Settle()
		})
	}
}
