package managed_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// While one node of a cluster cannot be reached, a pipeline for it sends nothing to the others.
func TestAPipelineForAnUnreachableNodeAsksNoOtherNode(t *testing.T) {
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	d.shut()
	c := managed.NewClusterClient(&redis.ClusterOptions{
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{
				{Start: 0, End: 8191, Nodes: []redis.ClusterNode{{Addr: d.addr}}},
				{Start: 8192, End: 16383, Nodes: []redis.ClusterNode{{Addr: s.Addr()}}},
			}, nil
		}}, managed.WithLogger(quiet))
	defer func() { _ = c.Close() }()
	require.NoError(t, c.Set(t.Context(), "foo", "v", 0).Err(), "slot 12182 is served")
	require.NoError(t, s.Admin().ConfigResetStat(t.Context()).Err())
	for what, fill := range map[string]func(redis.Pipeliner){
		"commands": func(p redis.Pipeliner) { p.Get(t.Context(), "bar"); p.Set(t.Context(), "{bar}2", "v", 0) }, // slot 5061
		"a script": func(p redis.Pipeliner) { p.Eval(t.Context(), "return 1", []string{"bar"}) },
	} {
		p := c.Pipeline()
		fill(p)
		_, err := p.Exec(deadline(t, 300*time.Millisecond))
		require.Error(t, err, what)
	}
	require.NotContains(t, s.Admin().Info(t.Context(), "commandstats").Val(), "cmdstat_ping")
}
