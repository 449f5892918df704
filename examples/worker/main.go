// Command worker takes jobs from a queue and runs them. It loses none on shutdown:
// after Ctrl-C it takes no more jobs, and finishes those that it has taken.
//
//	go run ./examples/worker              # makes jobs and does them, until Ctrl-C
//	go run ./examples/worker -jobs 20     # ends after 20
//
// The command that takes a job (BLMOVE) also moves it into a list of the worker,
// from which it is removed when it is done. So a job is in one of the two lists at
// any time, whatever fails in between, and is run at least once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/examples/internal/embed"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "", "`host:port` of a Redis server; without it an embedded one is used")
	workers := flags.Int("workers", 3, "how many jobs are done at a time")
	jobs := flags.Int("jobs", 0, "how many jobs to make and do; 0: until Ctrl-C")
	every := flags.Duration("every", 200*time.Millisecond, "how often a job is made; 0: as fast as can be")
	takes := flags.Duration("takes", 400*time.Millisecond, "how long a job takes")
	name := flags.String("queue", "worker:jobs", "name of the queue")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *workers < 1 || *jobs < 0 || *every < 0 {
		return fmt.Errorf("-workers %d -jobs %d -every %v: at least 1, 0 and 0", *workers, *jobs, *every)
	}
	redisAddr, stop, err := embed.Server(*addr)
	if err != nil {
		return err
	}
	defer stop()
	// Workers that wait for a job use a pool of their own, so the main pool stays
	// free for everything else.
	rdb, err := managed.New(&redis.Options{Addr: redisAddr}, managed.WithBlockingPool(*workers))
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()

	ctx, done := context.WithCancel(ctx) // ends with Ctrl-C, or with the last job
	defer done()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
	finished := 0
	q := &queue{rdb: rdb, name: *name, say: say, do: func(ctx context.Context, worker int, job string) error {
		select { // the work
		case <-time.After(*takes):
		case <-ctx.Done():
			return ctx.Err()
		}
		say("worker %d has done %s", worker, job)
		mu.Lock()
		defer mu.Unlock()
		if finished++; finished == *jobs {
			done()
		}
		return nil
	}}

	var all sync.WaitGroup
	all.Go(func() {
		if err := q.produce(ctx, *jobs, *every); err != nil && ctx.Err() == nil {
			say("no more jobs are made: %v", err)
		}
	})
	for i := range *workers {
		all.Go(func() {
			if err := q.work(ctx, i+1); err != nil {
				say("worker %d ends: %v", i+1, err)
			}
		})
	}
	<-ctx.Done()
	say("no more jobs are taken; what was begun is finished")
	all.Wait()

	left, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	waiting, err := rdb.LLen(left, *name).Result()
	if err != nil {
		return err
	}
	say("jobs done: %d, in the queue: %d", finished, waiting)
	return rdb.CloseGracefully(left) // names those who still hold a connection, if there are any
}
