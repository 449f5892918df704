package retry

import "github.com/redis/go-redis/v9"

// A pipeline of commands that may each be repeated must not always be repeated
// as a whole: after LRANGE k, DEL k has run once, the second LRANGE finds
// nothing, and what the first one had found is lost without an error. So a
// command whose reply or effect depends on what is there may be repeated only if
// nothing that comes after it in the repetition writes to the same keys. Writes
// of constants depend on nothing, and an earlier write is simply made again
// first, so nothing else can differ.

// repeatable reports whether the commands at the given positions, all of them
// individually safe by what classify says, may be sent again together, in this order.
func repeatable(cmds []redis.Cmder, at []int, classify Classifier) bool {
	var later keySet
	for n := len(at) - 1; n >= 0; n-- {
		cmd := cmds[at[n]]
		c, safety := classOf(cmd), classify(cmd)
		dependent := safety == ReadOnly && c.scope != scopeNone || safety != ReadOnly && !c.constant
		if dependent && later.touches(cmd, c.scope) {
			return false
		}
		if safety != ReadOnly {
			later.add(cmd, c.scope)
		}
	}
	return true
}

// keySet is a set of keys, or all of them.
type keySet struct {
	keys map[string]struct{}
	all  bool
}

func (s *keySet) add(cmd redis.Cmder, sc scope) {
	switch sc {
	case scopeNone:
		return
	case scopeAll:
		s.all = true
		return
	}
	for i := range keysOf(cmd, sc) {
		k, ok := args(cmd.Args()).text(i)
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
func (s *keySet) touches(cmd redis.Cmder, sc scope) bool {
	if s.all {
		return sc != scopeNone
	}
	if len(s.keys) == 0 || sc == scopeNone {
		return false
	}
	if sc == scopeAll {
		return true
	}
	for i := range keysOf(cmd, sc) {
		k, ok := args(cmd.Args()).text(i)
		if !ok {
			return true
		}
		if _, ok := s.keys[k]; ok {
			return true
		}
	}
	return false
}

// keysOf yields the positions at which cmd may have keys.
func keysOf(cmd redis.Cmder, sc scope) func(yield func(int) bool) {
	first, last, step := 1, len(cmd.Args())-1, 1
	if sc == scopeKeys {
		name, _ := nameOf(cmd)
		if row := lookup(name); row != nil {
			first, step = int(row.first), max(int(row.step), 1)
			if row.last >= 0 {
				last = min(last, int(row.last))
			} else {
				last += int(row.last) + 1
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

// touch reports whether another write than cmd, which is one of them, may touch the
// same keys: then what cmd replies the second time depends on that one.
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

// keysIn are the different keys of cmd, or all keys there are.
func keysIn(cmd redis.Cmder) (keys map[string]struct{}, all bool) {
	var s keySet
	s.add(cmd, classOf(cmd).scope)
	return s.keys, s.all
}
