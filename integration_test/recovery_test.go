package integration_test

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var recoveryFlag = flag.Bool("recovery", false, "measure how long go-redis's bare clients take to recover, beside managed ones, for docs/RELIABILITY.md; minutes")

// The numbers of docs/RELIABILITY.md.
func TestMeasureRecoveryBesideTheBareClients(t *testing.T) {
	if !*recoveryFlag {
		t.Log("measured with -recovery only")
		return
	}
	const workers = 4
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t, "redis-server", 3, 1)
		bare := redis.NewClusterClient(c.Options())
		defer bare.Close()
		loads := map[string]*load{
			"go-redis":  startLoad(t, bare, true, workers, c.Key(1, "")+"bare:"),
			"lifeguard": startLoad(t, guardedCluster(t, c.Options()), true, workers, c.Key(1, "")+"managed:"),
		}
		for _, how := range []string{"CLUSTER FAILOVER", "SIGSTOP", "kill -9"} {
			c.Settle()
			time.Sleep(time.Second)
			old, replicas := c.Master(1), c.Replicas(1)
			disturb(t, how, old, func() { do(t, replicas[0], "CLUSTER", "FAILOVER") })
			lost := time.Now()
			tell(t, how, lost, nextTakesWrites(t, replicas, c.Key(1, "")+"probe"), loads, workers)
			repair(how, old)
		}
		for _, l := range loads {
			l.end()
		}
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		set := redistest.StartSentinel(t, "redis-server")
		bare, bareCluster := redis.NewFailoverClient(set.Options()), redis.NewFailoverClusterClient(set.Options())
		defer bare.Close()
		defer bareCluster.Close()
		loads := map[string]*load{
			"go-redis FailoverClient":         startLoad(t, bare, true, workers, "bare:"),
			"go-redis FailoverClusterClient":  startLoad(t, bareCluster, true, workers, "barecluster:"),
			"lifeguard FailoverClient":        startLoad(t, sentinelClients["FailoverClient"](t, set.Options()), true, workers, "managed:"),
			"lifeguard FailoverClusterClient": startLoad(t, sentinelClients["FailoverClusterClient"](t, set.Options()), true, workers, "managedcluster:"),
		}
		for _, how := range []string{"SENTINEL FAILOVER", "SIGSTOP", "kill -9"} {
			set.Settle()
			time.Sleep(time.Second)
			old := set.Master()
			first, each := switches(t, set)
			disturb(t, how, old, func() {
				redistest.Eventually(t, "a failover begins", 30*time.Second, func() bool {
					return set.Sentinels()[0].Admin().Do(context.Background(), "SENTINEL", "FAILOVER", set.MasterName()).Err() == nil
				})
			})
			lost := time.Now()
			first()
			at := lost
			for _, said := range each() {
				if said.After(at) {
					at = said
				}
			}
			tell(t, how, lost, at, loads, workers)
			repair(how, old)
		}
		for _, l := range loads {
			l.end()
		}
	})
}

func disturb(t *testing.T, how string, old *redistest.Server, planned func()) {
	switch how {
	case "kill -9":
		old.Kill()
	case "SIGSTOP":
		old.Pause()
	default:
		planned()
	}
}

func repair(how string, old *redistest.Server) {
	switch how {
	case "kill -9":
		old.Restart()
	case "SIGSTOP":
		old.Resume()
	}
}

func tell(t *testing.T, how string, lost, at time.Time, loads map[string]*load, workers int) {
	for _, l := range loads {
		l.mark(at)
	}
	for name, l := range loads {
		median, last := l.recovered(workers, 100*time.Second)
		t.Logf("%s, %s: the servers took %v; served again %v (median), %v (last) after that; %d safe commands failed", how, name,
			at.Sub(lost).Round(time.Millisecond), median.Round(time.Millisecond), last.Round(time.Millisecond), l.failures())
	}
}
