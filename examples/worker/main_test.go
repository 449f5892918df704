package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/examples/internal/extest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

func TestItDoesItsJobsOnTheEmbeddedServer(t *testing.T) {
	p := extest.Start(t, run, "-jobs", "7", "-every", "5ms", "-takes", "5ms")
	require.NoError(t, p.Wait())
	require.Equal(t, 7, strings.Count(p.Output(), "has done"), p.Output())
	require.Contains(t, p.Output(), "jobs done: 7, in the queue: 0")
}

func TestCtrlCFinishesWhatWasBegunAndLeavesTheRest(t *testing.T) {
	s := redistest.Start(t)
	p := extest.Start(t, run, "-addr", s.Addr(), "-every", "1ms", "-takes", "100ms", "-queue", "q")
	p.Find("has done")
	p.CtrlC()
	require.NoError(t, p.Wait())
	var done, waiting int
	_, err := fmt.Sscanf(p.Find(`jobs done: \d+, in the queue: \d+`), "jobs done: %d, in the queue: %d", &done, &waiting)
	require.NoError(t, err)
	require.Equal(t, done, strings.Count(p.Output(), "has done"))
	rdb := s.Admin()
	require.EqualValues(t, waiting, rdb.LLen(t.Context(), "q").Val())
	require.Equal(t, []string{"q"}, rdb.Keys(t.Context(), "*").Val(), "no worker has kept one")
	require.Positive(t, waiting)
}

func TestNoJobIsLostWithTheConnections(t *testing.T) {
	const jobs, workers = 60, 3
	s := redistest.Start(t)
	rdb, err := managed.New(s.Options(), managed.WithBlockingPool(workers))
	require.NoError(t, err)
	defer rdb.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	var mu sync.Mutex
	done := map[string]int{}
	q := &queue{rdb: rdb, name: "q", say: t.Logf, do: func(_ context.Context, _ int, job string) error {
		mu.Lock()
		defer mu.Unlock()
		done[job]++
		if len(done) == jobs {
			cancel()
		}
		return nil
	}}
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			if err := q.work(ctx, i+1); err != nil {
				t.Errorf("worker %d: %v", i+1, err)
			}
		})
	}
	killer := time.NewTicker(10 * time.Millisecond)
	defer killer.Stop()
	admin := s.Admin()
	all.Go(func() {
		for i := range jobs { // by the admin, who is not killed
			if i%10 == 0 {
				<-killer.C
				s.KillClients(t)
			}
			if err := admin.LPush(ctx, "q", fmt.Sprint("job ", i)).Err(); err != nil {
				t.Errorf("push: %v", err)
			}
		}
	})
	all.Wait()
	require.Len(t, done, jobs)
	require.Empty(t, admin.Keys(t.Context(), "*").Val(), "nothing is left in any list")
}

func TestAJobOfAWorkerThatDiedIsDoneByItsSuccessor(t *testing.T) {
	s := redistest.Start(t)
	rdb := managed.NewClient(s.Options())
	defer rdb.Close()
	require.NoError(t, s.Admin().LPush(t.Context(), "q:taken:1", "begun").Err())
	ctx, cancel := context.WithCancel(t.Context())
	q := &queue{rdb: rdb, name: "q", say: t.Logf, do: func(_ context.Context, _ int, job string) error {
		require.Equal(t, "begun", job)
		cancel()
		return nil
	}}
	require.NoError(t, q.work(ctx, 1))
	require.ErrorIs(t, s.Admin().LIndex(t.Context(), "q:taken:1", 0).Err(), redis.Nil)
}

func TestAJobThatFailsIsTriedAgain(t *testing.T) {
	s := redistest.Start(t)
	rdb := managed.NewClient(s.Options())
	defer rdb.Close()
	require.NoError(t, s.Admin().LPush(t.Context(), "q", "hard").Err())
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	q := &queue{rdb: rdb, name: "q", say: t.Logf, do: func(context.Context, int, string) error {
		if tries++; tries == 1 {
			return errors.New("not today")
		}
		cancel()
		return nil
	}}
	require.NoError(t, q.work(ctx, 1))
	require.Equal(t, 2, tries)
	require.Empty(t, s.Admin().Keys(t.Context(), "*").Val())
}
