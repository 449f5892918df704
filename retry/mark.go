package retry

import "context"

// mark is what a context says about the commands that are sent with it.
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

// Idempotent says that repeating what is sent with the returned context is
// harmless, whatever its class. Commands that are bound to their connection
// (MULTI, WATCH, SUBSCRIBE, CLIENT ...) are not repeated all the same. [Never]
// is stronger.
func Idempotent(ctx context.Context) context.Context { return with(ctx, markIdempotent) }

// Never says that what is sent with the returned context is sent once. It is not sent again, whatever its
// class and its error. What was not sent is still tried again.
func Never(ctx context.Context) context.Context { return with(ctx, markNever) }

// Bound says that the commands sent with the returned context belong to one
// connection, as those between WATCH and EXEC do. Nothing is tried again, not
// even what was not sent: the next attempt could be on another connection.
// A plain redis.Conn and redis.Tx need no mark, as go-redis does not use them
// again after a failure.
func Bound(ctx context.Context) context.Context { return with(ctx, markBound) }

// Alone says that no outer hook sees what is sent with the returned context to a node of
// a ClusterClient or Ring, as the commands of a redis.Conn or redis.Tx of a node: the
// hook of [Hook.Node] then returns the error that the caller is to see, instead of one
// that only the outer hook understands. WATCH is not to be sent with it, because a
// ClusterClient repeats that.
func Alone(ctx context.Context) context.Context { return with(ctx, markAlone) }
