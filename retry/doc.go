// Package retry sends again what is safe to send again, and nothing else. It is a hook for any
// go-redis client:
//
//	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
//	hook, err := retry.Attach(rdb, retry.Default())
//
// # The rule
//
// A command that fails has one of three outcomes. Not sent: it is tried again. Answered: the reply
// is the result, unless it is a [Refusal], which means that the server has not executed the
// command. Unknown: it was sent and no reply came. Then it is sent again if it is a read, or a
// write that changes nothing when repeated; otherwise the caller gets [ErrUnknownOutcome], which
// wraps the cause. Where the second reply may say less than the first one (ZREM: 0), it is not
// returned: see [IdempotentState] and [Applied]. [SafetyOf] knows every command of Redis 8 and
// Valkey 8, and docs/COMMANDS.md lists them; [Idempotent], [Never] and [Bound] override it for one
// call.
//
// # What go-redis does by itself
//
// go-redis repeats every command on EOF and on timeouts, INCR included. Its retries must be off:
// MaxRetries: -1 in Options and RingOptions. [Attach] refuses a client that has them on; AddHook
// with [NewHook] cannot check. A ClusterClient repeats commands regardless of MaxRetries (its loop
// runs for MaxRedirects). It stops only when the connection returns an error that it does not
// recognise (see below). Without such connections, single commands on a ClusterClient do not have
// the guarantee; pipelines of several commands do.
//
// # What errors can say
//
// Connections, dialers and inner hooks can report more than go-redis does, through methods on their
// errors, which are found with errors.As:
//
//   - Early() error: the error happened before the command was written, in a handshake or in the
//     caller's own code; callers see the error that it returns.
//   - Unsent() bool: true if nothing of the command was written, false if some of it was. It marks
//     the error as a connection failure.
//   - Real() error: the real error behind one that go-redis must not recognise. A connection
//     returns such an error from Read while a reply is outstanding; it must have neither Timeout
//     nor Unwrap. Callers see the real one.
//   - Wait(context.Context) error: the node is unreachable and nothing was sent. Wait returns nil
//     when it may be tried again; it replaces the backoff.
//
// # Pipelines
//
// A command that was answered is never sent again. The others are, if each of them may be repeated,
// and if repeating them together gives the same result: after GET k, DEL k, a second GET would find
// nothing, so that pair is not repeated. MULTI/EXEC is repeated as a whole, either because nothing
// of it was sent, or because every command in it may be repeated. What may not be repeated ends
// with ErrUnknownOutcome.
//
// # Waiting
//
// While a node is unreachable, nothing is sent, so trying costs neither an attempt nor budget. The
// wait ends at the deadline of ctx, when the node's breaker opens, or, for a ctx without a
// deadline, after [UnreachableLimit]. A wait that would outlast ctx is not started: the caller gets
// the last error at once. The wait for a pool connection is go-redis's own, and is not repeated.
package retry
