package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// queue is a list in Redis. Each worker has a list of its own for its current
// job.
type queue struct {
	rdb  redis.UniversalClient
	name string
	do   func(ctx context.Context, worker int, job string) error
	say  func(format string, args ...any) // logs errors after which a worker continues
}

// finishWithin is how long a job that has begun may take, also after the end of ctx.
const finishWithin = 10 * time.Second

// pause is how long a worker waits after an error. Short outages cause none here:
// the client itself waits for the server.
const pause = time.Second

func (q *queue) own(worker int) string { return q.name + ":taken:" + strconv.Itoa(worker) }

// work takes jobs and does them until ctx ends. A job that fails stays in the
// worker's list, and is tried again.
func (q *queue) work(ctx context.Context, worker int) error {
	for ctx.Err() == nil {
		job, err := q.take(ctx, worker)
		switch {
		case errors.Is(err, redis.Nil):
			continue // nothing to do at the moment
		case errors.Is(err, retry.ErrUnknownOutcome):
			continue // if a job was taken, it is in the worker's list: take finds it there
		case ctx.Err() != nil:
			return q.putBack(ctx, worker)
		case err == nil:
			err = q.finish(ctx, worker, job)
		}
		if err != nil { // the job is still in the worker's list
			q.say("worker %d: %v", worker, err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
	return q.putBack(ctx, worker)
}

// take returns the worker's unfinished job, or waits for a new one, for a second
// at most, so that the worker notices the end of ctx.
func (q *queue) take(ctx context.Context, worker int) (string, error) {
	job, err := q.rdb.LIndex(ctx, q.own(worker), -1).Result()
	if !errors.Is(err, redis.Nil) {
		return job, err
	}
	return q.rdb.BLMove(ctx, q.name, q.own(worker), "right", "left", time.Second).Result()
}

// finish does a job and removes it from the worker's list.
func (q *queue) finish(ctx context.Context, worker int, job string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
	defer cancel()
	if err := q.do(ctx, worker, job); err != nil {
		return fmt.Errorf("%s: %w", job, err)
	}
	// Removing it twice is harmless, because no two jobs have the same name.
	return q.rdb.LRem(retry.Idempotent(ctx), q.own(worker), 1, job).Err()
}

// putBack returns the worker's unfinished jobs to the queue.
func (q *queue) putBack(ctx context.Context, worker int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
	defer cancel()
	for {
		err := q.rdb.LMove(ctx, q.own(worker), q.name, "left", "right").Err()
		switch {
		case errors.Is(err, redis.Nil):
			return nil
		case errors.Is(err, retry.ErrUnknownOutcome):
			continue // it is in one of the two lists: check again
		case err != nil:
			return err
		}
	}
}

// produce makes n jobs, or jobs until ctx ends if n is 0.
func (q *queue) produce(ctx context.Context, n int, every time.Duration) error {
	run := time.Now().UnixMilli()
	for i := 1; n == 0 || i <= n; i++ {
		if err := q.rdb.LPush(ctx, q.name, fmt.Sprintf("job %d-%d", run, i)).Err(); err != nil {
			return err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
