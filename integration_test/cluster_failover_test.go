package integration_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// A client that writes only to the lost shard hears of nothing by itself: it is
// served again within a second of the servers' own failover all the same.
func TestAClientOfOneShardIsServedWithinASecondOfItsFailover(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 1)
		rdb := guardedCluster(t, c.Options())
		const workers = 8
		prefix := c.Key(1, "")
		work := startLoad(t, rdb, true, workers, prefix)
		time.Sleep(300 * time.Millisecond)

		for _, how := range []string{"CLUSTER FAILOVER", "SIGSTOP", "kill -9"} {
			old := c.Master(1)
			replicas := c.Replicas(1)
			var at time.Time
			switch how {
			case "CLUSTER FAILOVER":
				if err := replicas[0].Admin().ClusterFailover(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			case "kill -9":
				old.Kill()
			default:
				old.Pause()
			}
			lost := time.Now()
			at = nextTakesWrites(t, replicas, prefix+"probe")
			work.mark(at)
			median, last := work.recovered(workers, 20*time.Second)
			t.Logf("%s: the servers took %v; callers served again: median %v, last %v after that", how, at.Sub(lost).Round(time.Millisecond),
				median.Round(time.Millisecond), last.Round(time.Millisecond))
			if median > time.Second || last > 2*time.Second {
				t.Errorf("%s: served again %v (median), %v (last) after the servers' own failover", how, median, last)
			}
			switch how {
			case "SIGSTOP":
				old.Resume()
			case "kill -9":
				old.Restart()
			}
			c.Settle()
		}
		work.end()
		work.safe.none(t, "SET and GET", work.calls.Load())
		t.Log(work.twice(rdb))
	})
}

// After a failover go-redis may ask a node that has not heard of it yet. What then
// still goes to the lost master is not left there.
func TestASlotMapThatIsOldAfterAFailoverCostsLittle(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "redis-server", 3, 1)
	old, next := c.Master(1), c.Replicas(1)[0]
	var stale atomic.Int32
	opt := c.Options()
	opt.ClusterSlots = func(ctx context.Context) ([]redis.ClusterSlot, error) {
		//lint:ignore SA1019 it is what go-redis's cluster client goes by
		slots, err := c.Nodes()[0].Admin().ClusterSlots(ctx).Result()
		for i := range slots {
			nodes := slots[i].Nodes
			for j := range nodes { // a server does not know its own host
				_, port, _ := net.SplitHostPort(nodes[j].Addr)
				nodes[j].Addr = net.JoinHostPort("127.0.0.1", port)
			}
			if nodes[0].Addr == next.Addr() && stale.Add(1) <= 3 {
				slots[i].Nodes = []redis.ClusterNode{{Addr: old.Addr()}}
			}
		}
		return slots, err
	}
	rdb := guardedCluster(t, opt)
	const workers = 8
	prefix := c.Key(1, "")
	work := startLoad(t, rdb, true, workers, prefix)
	time.Sleep(300 * time.Millisecond)
	old.Pause()
	work.mark(nextTakesWrites(t, []*redistest.Server{next}, prefix+"probe"))
	median, last := work.recovered(workers, 20*time.Second)
	t.Logf("after %d old maps: callers served again: median %v, last %v after the servers' failover", min(3, stale.Load()),
		median.Round(time.Millisecond), last.Round(time.Millisecond))
	if stale.Load() < 3 {
		t.Errorf("only %d old maps were given", stale.Load())
	}
	if median > time.Second || last > 2*time.Second {
		t.Errorf("served again %v (median), %v (last) after the servers' own failover", median, last)
	}
	old.Resume()
	c.Settle()
	work.end()
	work.safe.none(t, "SET and GET", work.calls.Load())
	t.Log(work.twice(rdb))
}
