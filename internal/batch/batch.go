package batch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// batch is a group of commands that are sent together. It accepts no more of them once it has been
// taken, under its batcher's lock.
type batch struct {
	cmds    []redis.Cmder // nil where a caller gave up in time
	waiting int           // number of those that are not nil
	taken   bool
	began   time.Time
	done    chan struct{}

	// Set when it is taken:
	asleep atomic.Int32  // callers that have not woken up
	woken  chan struct{} // of its worker, nil if none sends it
	ctx    context.Context
	cancel context.CancelFunc
}

// wokeUp is called once by each caller of a taken batch, when it has stopped waiting.
func (x *batch) wokeUp() {
	if x.asleep.Add(-1) == 0 && x.woken != nil {
		x.woken <- struct{}{}
	}
}

const abandonWait = 10 * time.Millisecond // for a batch that ends because its caller has given up

// giveUp is called when the caller of a command in a taken batch stops waiting. A batch that still
// waits for a connection or its handshake ends, unsent; one that was written goes on. It reports
// whether the command has its result.
func (x *batch) giveUp() bool {
	defer x.wokeUp()
	x.cancel()
	patience := time.NewTimer(abandonWait)
	defer patience.Stop()
	select {
	case <-x.done:
		return true
	case <-patience.C:
		return false
	}
}

// fail ends a batch of which nothing was sent.
func (x *batch) fail(err error) {
	for _, cmd := range x.cmds {
		if cmd != nil {
			cmd.SetErr(err)
		}
	}
	x.cancel()
	close(x.done)
}

// panicError is the error of the commands of a batch during which a hook panicked.
type panicError struct{ value any }

func (e *panicError) Error() string {
	return fmt.Sprintf("lifeguard/managed: the batch was ended by a panic in a hook: %v", e.value)
}
func (e *panicError) Unsent() bool { return false }

// errGivenUp is the error of a command whose batch ended, unsent, because one of its callers gave
// up. The other callers continue by themselves.
type errGivenUp struct{}

func (errGivenUp) Error() string {
	return "lifeguard/managed: the batch was not sent: the ctx of one of its callers ended first"
}
func (errGivenUp) Unsent() bool { return true }

func goOnAlone(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		if err := cmd.Err(); errors.Is(err, context.Canceled) && retry.OutcomeOf(err) == retry.NotSent {
			cmd.SetErr(errGivenUp{})
		}
	}
}

// hidesUnknown reports that the first attempt may have been executed, while err comes from an
// attempt that was not made.
func hidesUnknown(first, err error) bool {
	return retry.OutcomeOf(first) == retry.Unknown && retry.OutcomeOf(err) == retry.NotSent && !errors.Is(err, retry.ErrUnknownOutcome)
}
