package upkeep_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/internal/upkeep"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// soon bounds what should take no time at all.
const soon = 10 * time.Second

// rig is a client of go-redis with a Keeper, and nothing of managed.
type rig struct {
	*redis.Client
	tracker *conntrack.Tracker
	keeper  *upkeep.Keeper
	node    *upkeep.Node
}

func newRig(t *testing.T, s *redistest.Server, change func(*upkeep.Node)) *rig {
	opt := s.Options()
	opt.MaxRetries = -1
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	tracker := conntrack.NewTracker(conntrack.Config{})
	node := &upkeep.Node{Tracked: tracker.NewNode(opt), Leases: func() int { return 0 }}
	if change != nil {
		change(node)
	}
	c := redis.NewClient(opt)
	(&conntrack.Hook{Node: node.Tracked}).Install(c, nil, nil)
	node.Tracked.Bind(c)
	ctx, stop := context.WithCancel(context.Background())
	var nodes []*upkeep.Node
	k := upkeep.New(upkeep.Config{Context: ctx, Tracker: tracker, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Detection: upkeep.Detection{Off: true}, Nodes: func() []*upkeep.Node { return nodes }})
	k.Add(node)
	nodes = append(nodes, node)
	t.Cleanup(func() {
		tracker.Shut()
		stop()
		node.Stop()
		node.Tracked.Close()
		_ = c.Close()
	})
	return &rig{c, tracker, k, node}
}

// open opens n connections and leaves them idle.
func (r *rig) open(t *testing.T, n int) {
	var held []*redis.Conn
	for range n {
		conn := r.Conn()
		require.NoError(t, conn.Ping(t.Context()).Err())
		held = append(held, conn)
	}
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
}

func TestConnectionsThatAreTooOldAreClosedWithNobodyCalling(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Start(t), nil)
	r.open(t, 3)
	r.keeper.SetMaxAge(50 * time.Millisecond)
	redistest.Eventually(t, "all are closed", soon, func() bool { return r.node.Tracked.Len() == 0 })
	require.Equal(t, map[hooks.Reason]uint64{hooks.ReasonAge: 3}, r.tracker.CloseReasons())
}

func TestEvictIdleClosesWhatIsIdleAndLeavesWhatSomebodyHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Start(t), nil)
	r.open(t, 3)
	conn := r.Conn()
	require.NoError(t, conn.Ping(t.Context()).Err())
	require.Equal(t, 2, r.keeper.EvictIdle(t.Context()))
	require.NoError(t, conn.Ping(t.Context()).Err())
	require.NoError(t, conn.Close())
	require.Equal(t, 1, r.keeper.Reset(t.Context()), "the one that was held is there still")
	require.Zero(t, r.node.Tracked.Len())
}

func TestTheServerIsAskedForMaxclientsOnceWhoeverWantsToKnow(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxclients", "77")
	var heard atomic.Int64
	r := newRig(t, s, func(n *upkeep.Node) { n.MaxClients = func(most int) { heard.Store(int64(most)) } })
	r.keeper.SetHeartbeat(-1)
	r.open(t, 1)
	redistest.Eventually(t, "it said how many it takes", soon, func() bool { return heard.Load() == 77 })
	redistest.Eventually(t, "it said how many it has, too", soon, func() bool {
		r.keeper.WantClients()
		now, most, refused := r.node.Clients()
		return now >= 1 && most == 77 && refused == ""
	})
	stats, err := s.Admin().Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	_, line, _ := strings.Cut(stats, "cmdstat_config|get:")
	require.True(t, strings.HasPrefix(line, "calls=2,"), "once for maxclients and once for timeout: %.20q", line)
}

func TestANodeThatWasStoppedIsNotCheckedAnyMore(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	stopped, other := newRig(t, s, nil), newRig(t, s, nil)
	for _, r := range []*rig{stopped, other} {
		r.open(t, 2)
	}
	stopped.node.Stop()
	for _, r := range []*rig{stopped, other} {
		r.keeper.SetMaxAge(time.Millisecond)
	}
	redistest.Eventually(t, "the other one is checked", soon, func() bool { return other.node.Tracked.Len() == 0 })
	require.Equal(t, 2, stopped.node.Tracked.Len())
	stopped.node.Check(0)
	require.Zero(t, stopped.node.Tracked.Len(), "they were due")
}
