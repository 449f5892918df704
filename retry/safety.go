package retry

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Safety says what happens when a command that the server has executed is sent a second time.
// docs/COMMANDS.md lists every command with its class.
type Safety int

const (
	// ReadOnly commands change nothing, however often they run.
	ReadOnly Safety = iota
	// IdempotentWrite commands leave the same state and give the same reply when they run twice in
	// a row (SET, MSET, SETRANGE). HSET, ZADD and GEOADD without flags are included: their count
	// of new fields may be 0 the second time, but it is rarely read. Another client's write in
	// between is overwritten: A's SET, B's SET, A's SET again; see [Policy.NoRepeatWrites].
	IdempotentWrite
	// IdempotentState commands leave the same state when they run twice in a row, but the second
	// reply may say less: a ZREM that returned 1 returns 0. The reply of a repetition is returned
	// only if it is one that nothing but a first execution can give (ZREM of one member: 1).
	// Otherwise the error is an [*UnknownOutcomeError] with Applied set. See
	// [Policy.IgnoreCounts].
	IdempotentState
	// Unsafe commands act again when they run again (INCR, LPUSH), remove the value that they
	// return (BLPOP, GETDEL), decide something by their reply (SET NX), are bound to their
	// connection, or are unknown.
	Unsafe
)

// String returns "read-only", "idempotent", "idempotent state" or "unsafe".
func (s Safety) String() string {
	switch s {
	case ReadOnly:
		return "read-only"
	case IdempotentWrite:
		return "idempotent"
	case IdempotentState:
		return "idempotent state"
	case Unsafe:
		return "unsafe"
	}
	return fmt.Sprintf("Safety(%d)", int(s))
}

// Classifier says how safe a command is to repeat. It is called only after a failure, possibly by
// several goroutines at once, and must not keep cmd. [SafetyOf] is the default; a custom Classifier
// can call it.
type Classifier func(cmd redis.Cmder) Safety

// SafetyOf classifies a command by what Redis 8 and Valkey 8 say about it, by a list of writes that
// change nothing when repeated, and by its arguments: SET k v is IdempotentWrite, SET k v NX is
// Unsafe. An unknown command is Unsafe. It reads only the arguments and does not change cmd.
func SafetyOf(cmd redis.Cmder) Safety { return Safety(command.ClassOf(cmd).Safety) }

// Both types have the same values.
var _ = [1]struct{}{}[int(command.ReadOnly)-int(ReadOnly)+int(command.IdempotentWrite)-int(IdempotentWrite)+
	int(command.IdempotentState)-int(IdempotentState)+int(command.Unsafe)-int(Unsafe)]
