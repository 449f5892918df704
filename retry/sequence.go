package retry

import (
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/redis/go-redis/v9"
)

// A pipeline of commands that may each be repeated must not always be repeated as a whole: after
// LRANGE k, DEL k has run once, the second LRANGE finds nothing, and the result of the first one is
// lost without an error. So a command whose reply or effect depends on existing data may be
// repeated only if no later command of the repetition writes to the same keys. Writes of constants
// depend on nothing, and an earlier write is simply made again first, so nothing else can differ.

// repeatable reports whether the commands at the given positions, each of them safe to repeat
// according to classify, may be sent again together, in this order.
func repeatable(cmds []redis.Cmder, at []int, classify Classifier) bool {
	var later keySet
	for n := len(at) - 1; n >= 0; n-- {
		cmd := cmds[at[n]]
		c, safety := command.ClassOf(cmd), classify(cmd)
		dependent := safety == ReadOnly && c.Scope != command.ScopeNone || safety != ReadOnly && !c.Constant
		if dependent && later.touches(cmd, c.Scope) {
			return false
		}
		if safety != ReadOnly {
			later.add(cmd, c.Scope)
		}
	}
	return true
}

// keySet is a set of keys, or all of them.
type keySet struct {
	keys map[string]struct{}
	all  bool
}

func (s *keySet) add(cmd redis.Cmder, sc command.Scope) {
	switch sc {
	case command.ScopeNone:
		return
	case command.ScopeAll:
		s.all = true
		return
	}
	for i := range sc.Keys(cmd) {
		k, ok := command.Args(cmd.Args()).Text(i)
		if !ok {
			s.all = true
			return
		}
		if s.keys == nil {
			s.keys = make(map[string]struct{})
		}
		s.keys[k] = struct{}{}
	}
}

// touches reports whether cmd may use a key of the set.
func (s *keySet) touches(cmd redis.Cmder, sc command.Scope) bool {
	if s.all {
		return sc != command.ScopeNone
	}
	if len(s.keys) == 0 || sc == command.ScopeNone {
		return false
	}
	if sc == command.ScopeAll {
		return true
	}
	for i := range sc.Keys(cmd) {
		k, ok := command.Args(cmd.Args()).Text(i)
		if !ok {
			return true
		}
		if _, ok := s.keys[k]; ok {
			return true
		}
	}
	return false
}

// writers counts the writes of each key.
type writers struct {
	keys map[string]int
	n    int // of all
	all  int // of those that may touch any key
}

func (w *writers) add(cmd redis.Cmder) {
	w.n++
	keys, all := keysIn(cmd)
	if all {
		w.all++
	}
	for k := range keys {
		w.keys[k]++
	}
}

// touch reports whether a write other than cmd (which is one of them) may touch the same keys: then
// cmd's second reply depends on that write.
func (w *writers) touch(cmd redis.Cmder) bool {
	keys, all := keysIn(cmd)
	if all {
		return w.n > 1
	}
	if w.all > 0 {
		return true
	}
	for k := range keys {
		if w.keys[k] > 1 {
			return true
		}
	}
	return false
}

// keysIn returns the distinct keys of cmd; all is true if it may touch any key.
func keysIn(cmd redis.Cmder) (keys map[string]struct{}, all bool) {
	var s keySet
	s.add(cmd, command.ClassOf(cmd).Scope)
	return s.keys, s.all
}
