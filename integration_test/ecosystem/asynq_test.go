package ecosystem_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// silent is a logger for asynq.
type silent struct{}

func (silent) Debug(...any) {}
func (silent) Info(...any)  {}
func (silent) Warn(...any)  {}
func (silent) Error(...any) {}
func (silent) Fatal(...any) {}

// done is what asynq's server has processed.
type done struct {
	mu  sync.Mutex
	ids map[string]int
}

func (d *done) ProcessTask(_ context.Context, task *asynq.Task) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ids == nil {
		d.ids = map[string]int{}
	}
	d.ids[string(task.Payload())]++
	if string(task.Payload()) == "fails" {
		return asynq.SkipRetry
	}
	return nil
}

func (d *done) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ids[id] > 0
}

func asynqServer(rdb redis.UniversalClient) *asynq.Server {
	return asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency: 4, Logger: silent{}, TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond,
		ShutdownTimeout: soon,
	})
}

func asynqLibrary() library {
	return library{
		name: "asynq", varies: true,
		play: func(p *play) {
			client, inspector := asynq.NewClientFromRedisClient(p.rdb), asynq.NewInspectorFromRedisClient(p.rdb)
			enqueue := func(id string, opts ...asynq.Option) {
				p.step("enqueue "+id, func(ctx context.Context) (any, error) {
					info, err := client.EnqueueContext(ctx, asynq.NewTask("email", []byte(id)), append(opts, asynq.TaskID(id))...)
					if err != nil {
						return nil, err
					}
					return info.State, nil
				})
			}
			state := func() {
				p.step("queue", func(context.Context) (any, error) {
					q, err := inspector.GetQueueInfo("default")
					if err != nil {
						return nil, err
					}
					return []int{q.Size, q.Pending, q.Active, q.Scheduled, q.Archived, q.Processed, q.Failed}, nil
				})
			}
			p.step("ping", func(context.Context) (any, error) { return nil, client.Ping() })
			enqueue("a", asynq.Retention(time.Hour))
			enqueue("a")
			enqueue("fails")
			enqueue("later", asynq.ProcessIn(time.Hour))
			enqueue("unique", asynq.Unique(time.Hour))
			state()
			p.step("delete", func(context.Context) (any, error) { return nil, inspector.DeleteTask("default", "unique") })
			p.step("run now", func(context.Context) (any, error) { return nil, inspector.RunTask("default", "later") })
			p.step("pause", func(context.Context) (any, error) { return nil, inspector.PauseQueue("default") })
			p.step("unpause", func(context.Context) (any, error) { return nil, inspector.UnpauseQueue("default") })
			p.step("archive", func(context.Context) (any, error) { return nil, inspector.ArchiveTask("default", "fails") })
			state()
		},
		load: func(l *load) {
			var processed done
			var number atomic.Int64
			var mu sync.Mutex
			var accepted []string
			client, server := asynq.NewClientFromRedisClient(l.rdb), asynqServer(l.rdb)
			if err := server.Start(&processed); err != nil {
				l.t.Fatal(err)
			}
			l.call = func(ctx context.Context, _ int) error {
				id := fmt.Sprint("task-", number.Add(1))
				_, err := client.EnqueueContext(ctx, asynq.NewTask("email", []byte(id)), asynq.TaskID(id))
				// A conflict with itself: the first one was enqueued.
				if err == nil || errors.Is(err, asynq.ErrTaskIDConflict) {
					mu.Lock()
					accepted = append(accepted, id)
					mu.Unlock()
					return nil
				}
				return err
			}
			l.check = func() {
				// What a worker was about to take when its connection was killed stays in
				// the list of active tasks, until asynq finds it there in some minutes.
				inspector := asynq.NewInspectorFromRedisClient(l.rdb)
				redistest.Eventually(l.t, "each task that was accepted is processed, or kept by the server", soon, func() bool {
					active, err := inspector.ListActiveTasks("default", asynq.PageSize(1000))
					if err != nil {
						return false
					}
					kept := map[string]bool{}
					for _, task := range active {
						kept[task.ID] = true
					}
					for _, id := range accepted {
						if !processed.has(id) && !kept[id] {
							return false
						}
					}
					return true
				})
			}
			l.end = server.Shutdown
		},
	}
}
