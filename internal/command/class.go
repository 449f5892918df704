package command

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// Safety says what happens when a command is sent a second time. Its values are those of
// retry.Safety, which documents them.
type Safety int

const (
	ReadOnly Safety = iota
	IdempotentWrite
	IdempotentState
	Unsafe
)

// Class is what is known about a command with its arguments.
type Class struct {
	Safety Safety
	// Constant: a write whose effect does not depend on existing data. A sequence of such writes
	// may be repeated together with any other commands.
	Constant bool
	Proof    Proof // of IdempotentState
	Scope    Scope
}

var (
	no       = Class{Safety: Unsafe}
	read     = Class{Safety: ReadOnly}
	constant = Class{Safety: IdempotentWrite, Constant: true}
	again    = Class{Safety: IdempotentWrite} // its effect depends on existing data
)

// less returns c for a command whose second reply may say less.
func (c Class) less(kind proofKind, n int) Class {
	if c.Safety == IdempotentWrite {
		c.Safety, c.Proof = IdempotentState, Proof{kind, n}
	}
	return c
}

func (c Class) value() Class     { return c.less(proofValue, 0) }
func (c Class) positive() Class  { return c.less(proofPositive, 0) }
func (c Class) all(n int) Class  { return c.less(proofAll, n) }
func (c Class) each(n int) Class { return c.less(proofEach, n) }
func (c Class) never() Class     { return c.less(proofNone, 0) }

// when returns c if ok, else no.
func when(ok bool, c Class) Class {
	if ok {
		return c
	}
	return no
}

// ClassOf classifies a command by what Redis and Valkey say about it, by the decisions of this
// package, and by its arguments. An unknown command is Unsafe.
func ClassOf(cmd redis.Cmder) Class {
	r, name, a := find(cmd)
	c := no
	switch {
	case r == nil:
	case r.decision != nil && r.decision.rule != nil:
		c = r.decision.rule(a)
	case r.decision != nil:
		c = r.decision.is
	case r.isRead():
		c = read
	}
	c.Scope = scopeOf(name, r)
	return c
}

// Scope says which keys a command may touch.
type Scope uint8

const (
	ScopeAll  Scope = iota // any key
	ScopeArgs              // keys that are among its arguments
	ScopeKeys              // keys whose positions are in the table
	ScopeNone              // no keys
)

func scopeOf(name string, r *row) Scope {
	switch {
	case r != nil && r.is&anyKey != 0:
		return ScopeAll
	case strings.HasPrefix(name, "json.") || strings.HasPrefix(name, "bf.") || strings.HasPrefix(name, "cf.") ||
		strings.HasPrefix(name, "cms.") || strings.HasPrefix(name, "topk.") || strings.HasPrefix(name, "tdigest."):
		return ScopeArgs
	case r == nil || r.is&asked == 0:
		return ScopeAll
	case r.is&movable != 0:
		return ScopeArgs
	case r.first > 0:
		return ScopeKeys
	case r.is&write != 0:
		return ScopeAll
	}
	return ScopeNone
}

// Keys yields the positions of the arguments that may be keys, for ScopeArgs and ScopeKeys.
func (s Scope) Keys(cmd redis.Cmder) func(yield func(int) bool) {
	first, last, step := 1, len(cmd.Args())-1, 1
	if s == ScopeKeys {
		if r, _, _ := find(cmd); r != nil {
			first, step = int(r.first), max(int(r.step), 1)
			if r.last >= 0 {
				last = min(last, int(r.last))
			} else {
				last += int(r.last) + 1
			}
		}
	}
	return func(yield func(int) bool) {
		for i := first; i <= last; i += step {
			if !yield(i) {
				return
			}
		}
	}
}
