package command

import "github.com/redis/go-redis/v9"

// A write of class IdempotentState is repeated so that its state is certain. Whether its second
// reply may be returned to the caller depends on which replies a repetition right after a first
// execution can give.

// Proof says which replies only a first execution can give. Another client may act between the two
// executions, so a count over several elements is accepted only if it is the highest possible one:
// ZREM a b that returns 1 may have removed the other one before.
type Proof struct {
	kind proofKind
	n    int
}

type proofKind uint8

const (
	proofNone     proofKind = iota // no reply proves it
	proofValue                     // any value, but not nil
	proofPositive                  // 1 or more, or true
	proofAll                       // n
	proofEach                      // a list in which each is at least 1, and at most n
)

// Given reports whether the reply in cmd is such a reply. err is the error that came with it: nil
// or redis.Nil.
func (p Proof) Given(cmd redis.Cmder, err error) bool {
	if err != nil {
		return false
	}
	switch v := replyOf(cmd).(type) {
	case int64:
		return p.kind == proofPositive && v >= 1 || p.kind == proofAll && v == int64(p.n) || p.kind == proofValue
	case bool:
		return v && (p.kind != proofAll || p.n == 1) && p.kind != proofNone && p.kind != proofEach
	case string:
		return p.kind == proofValue
	case []any:
		for _, e := range v {
			if !p.element(e) {
				return false
			}
		}
		return len(v) > 0 && (p.kind == proofEach || p.kind == proofValue)
	}
	return false
}

func (p Proof) element(e any) bool {
	if p.kind == proofValue {
		return e != nil
	}
	switch e := e.(type) {
	case int64:
		return e >= 1 && e <= int64(p.n)
	case bool:
		return e
	}
	return false
}

// replyOf returns the reply in cmd: int64, bool, string, a list of those, or nil for no value and
// for command types without a class of their own.
func replyOf(cmd redis.Cmder) any {
	switch c := cmd.(type) {
	case *redis.Cmd:
		return c.Val()
	case *redis.IntCmd:
		return c.Val()
	case *redis.BoolCmd:
		return c.Val()
	case *redis.StatusCmd:
		return c.Val()
	case *redis.StringCmd:
		return c.Val()
	case *redis.SliceCmd:
		return c.Val()
	case *redis.IntSliceCmd:
		return list(c.Val())
	case *redis.BoolSliceCmd:
		return list(c.Val())
	case *redis.StringSliceCmd:
		var out []any
		for _, s := range c.Val() {
			if s == "" { // go-redis reads nil as this
				return nil
			}
			out = append(out, s)
		}
		return out
	}
	return nil
}

func list[T any](v []T) []any {
	out := make([]any, len(v))
	for i := range v {
		out[i] = v[i]
	}
	return out
}
