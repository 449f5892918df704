package retry

import "context"

// mark holds what a context says about the commands sent with it.
type mark uint8

const (
	markIdempotent mark = 1 << iota
	markNever
	markBound
	markFirst
	markHarmless
	markScript // a script on its way through a cluster's own retries
	markAlone
)

type markKey struct{}

func with(ctx context.Context, m mark) context.Context {
	return context.WithValue(ctx, markKey{}, marksOf(ctx)|m)
}

func marksOf(ctx context.Context) mark {
	m, _ := ctx.Value(markKey{}).(mark)
	return m
}

// Idempotent declares that repeating what is sent with the returned context is harmless, whatever
// its class. Commands that are bound to their connection (MULTI, WATCH, SUBSCRIBE, CLIENT ...) are
// still not repeated. [Never] takes precedence.
func Idempotent(ctx context.Context) context.Context { return with(ctx, markIdempotent) }

// Never declares that what is sent with the returned context must be sent only once. It is not sent
// again, whatever its class and its error. What was not sent is still tried again.
func Never(ctx context.Context) context.Context { return with(ctx, markNever) }

// Bound declares that the commands sent with the returned context belong to one connection, like
// those between WATCH and EXEC. Nothing is tried again, not even what was not sent: the next
// attempt could use another connection. A plain redis.Conn and redis.Tx need no mark, because
// go-redis does not use them again after a failure.
func Bound(ctx context.Context) context.Context { return with(ctx, markBound) }

// Alone declares that no outer hook sees what is sent with the returned context to a node of a
// ClusterClient or Ring, for example by a redis.Conn or redis.Tx of a node. The hook from
// [Hook.Node] then returns the error meant for the caller, instead of one that only the outer hook
// understands. Do not send WATCH with it, because a ClusterClient repeats WATCH.
func Alone(ctx context.Context) context.Context { return with(ctx, markAlone) }
