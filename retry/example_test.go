package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// On a plain go-redis client, whose own retries have to be off.
func ExampleAttach() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	_, err := retry.Attach(rdb, retry.Default())
	fmt.Println(err != nil, "with its own retries on")

	rdb = redis.NewClient(&redis.Options{Addr: "localhost:6379", MaxRetries: -1})
	defer rdb.Close()
	hook, err := retry.Attach(rdb, retry.Default())
	if err != nil {
		fmt.Println(err)
		return
	}
	// ... commands of rdb are repeated where that is safe
	fmt.Println(hook.Stats().Retries, "sent again so far")
	// Output:
	// true with its own retries on
	// 0 sent again so far
}

// Begin with the default and change what is to differ.
func ExampleDefault() {
	p := retry.Default()
	p.MaxAttempts = 3
	p.NoRepeatWrites = true // SET k v is not repeated either: another one's SET may have come in between
	p.Backoff = retry.FullJitter(5*time.Millisecond, 100*time.Millisecond)
	p.Breaker.After = 10 * time.Second
	fmt.Println(p.Validate())

	p.PerAttempt = -time.Second
	fmt.Println(p.Validate())
	// Output:
	// <nil>
	// lifeguard/retry: PerAttempt is -1s: it must not be negative
}

// What an error says about the command that returned it.
func ExampleOutcomeOf() {
	for _, err := range []error{nil, redis.Nil, redis.ErrPoolTimeout, io.EOF, context.DeadlineExceeded} {
		fmt.Printf("%v: %v\n", err, retry.OutcomeOf(err))
	}
	// Output:
	// <nil>: answered
	// redis: nil: answered
	// redis: connection pool timeout: not sent
	// EOF: unknown
	// context deadline exceeded: not sent
}

// A write whose reply was lost.
func ExampleUnknownOutcomeError() {
	var err error = &retry.UnknownOutcomeError{Command: "incr", Attempts: 1, Cause: io.EOF} // as rdb.Incr returns it

	fmt.Println(err)
	fmt.Println(errors.Is(err, retry.ErrUnknownOutcome), errors.Is(err, io.EOF))
	// Output:
	// lifeguard/retry: incr: outcome unknown after 1 attempt, check before you repeat it: EOF
	// true true
}

// A call that may run twice says so.
func ExampleIdempotent() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", MaxRetries: -1})
	defer rdb.Close()
	if _, err := retry.Attach(rdb, retry.Default()); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no server is asked here

	// The job's number is unique, so to remove it twice does no harm.
	rdb.LRem(retry.Idempotent(ctx), "jobs:taken", 1, "job 4711")
	// This one is sent once at most, whatever it is.
	rdb.Set(retry.Never(ctx), "leader", "me", time.Minute)
}

// Retries may be a tenth of the calls, and two a second in quiet times.
func ExampleNewBudget() {
	budget := retry.NewBudget(0.1, 2)
	fmt.Println(budget)

	p := retry.Default()
	p.Budget = budget // may be given to several clients, which then share it
	// Output: 0.1 of calls and 2/s
}

// A class of one's own for what lifeguard cannot know, and its own for the rest.
func ExampleClassifier() {
	ctx := context.Background()
	classify := func(cmd redis.Cmder) retry.Safety {
		if strings.EqualFold(cmd.Name(), "fcall") && len(cmd.Args()) > 1 && cmd.Args()[1] == "my_pure_function" {
			return retry.ReadOnly
		}
		return retry.SafetyOf(cmd)
	}
	p := retry.Default()
	p.Classify = classify

	fmt.Println(p.Classify(redis.NewCmd(ctx, "FCALL", "my_pure_function", 0)))
	fmt.Println(p.Classify(redis.NewCmd(ctx, "FCALL", "another", 0)))
	// Output:
	// read-only
	// unsafe
}
