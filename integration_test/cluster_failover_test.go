package integration_test

import (
	"testing"
	"time"

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
