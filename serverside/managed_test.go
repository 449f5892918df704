package serverside_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// A reaper on a managed client ends what others left behind, and nothing of the
// pool that it works through.
func TestTheLivePoolOfAManagedClientIsSpared(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		rdb := managed.NewClient(s.Options(), managed.WithLogger(slog.New(slog.DiscardHandler)))
		defer rdb.Close()
		a, err := rdb.Acquire(bg)
		require.NoError(t, err)
		b, err := rdb.Acquire(bg)
		require.NoError(t, err)
		ids := []int64{a.ClientID(bg).Val(), b.ClientID(bg).Val()}
		a.Release()
		b.Release()
		connect(t, s, "zombie", 2)
		age(t, s, "zombie", time.Second)

		r := reaper(t, rdb, serverside.Policy{
			Everybody: true, MaxAge: time.Second,
			Spare: serverside.SpareAny(serverside.SpareNames("judge"), serverside.SpareAddrs(func() []string {
				var live []string
				for _, c := range rdb.Conns() {
					live = append(live, c.Local)
				}
				return live
			})),
		})
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 2, rep.Closed)
		assert.Zero(t, count(t, s, "zombie"))
		live := map[int64]bool{}
		for _, c := range s.ClientList(t) {
			live[c.ID] = true
		}
		for _, id := range ids {
			assert.True(t, live[id], "connection %d of the pool is alive", id)
		}
	})
}
