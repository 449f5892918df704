package retry

import (
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// failed reports whether command i still has no final reply.
func (c *pipeCall) failed(i int) bool {
	f := c.fails[i]
	return f.err != nil && !(f.outcome == Answered && f.kind == final)
}

// choose picks the commands to send again. It returns the failure that represents all of them: the
// least certain one.
func (c *pipeCall) choose() (again []int, f failure, a Attempt) {
	if c.marks&attempt.Bound != 0 {
		return nil, f, a
	}
	var lostOnes, unsentOnes, refused []int
	for i := range c.body {
		switch {
		case !c.failed(i):
		case c.fails[i].outcome == Unknown:
			lostOnes = append(lostOnes, i)
		case c.fails[i].outcome == NotSent:
			unsentOnes = append(unsentOnes, i)
		default:
			refused = append(refused, i)
		}
	}
	if c.tx {
		again = c.chooseTx(lostOnes, unsentOnes, refused)
	} else {
		again = c.chooseOpen(lostOnes, unsentOnes, refused)
	}
	a = Attempt{Command: "pipeline", Commands: len(again)}
	if c.tx {
		a.Command = "multi"
	}
	for n, i := range again {
		if g := c.fails[i]; n == 0 || rank(g) > rank(f) {
			f = g
		}
		a.Safety = max(a.Safety, c.h.safety(c.body[i]))
	}
	return again, f, a
}

// rank orders failures by how much a repetition costs.
func rank(f failure) int {
	switch f.kind {
	case lost:
		return 3
	case notExecuted:
		return 2
	case notReady:
		return 1
	}
	return 0
}

func (c *pipeCall) chooseOpen(lostOnes, unsentOnes, refused []int) []int {
	for _, cmd := range c.body {
		if command.IsBound(cmd) && len(unsentOnes) < len(c.body) {
			return nil // the rest would not mean the same on another connection
		}
	}
	var again []int
	for _, i := range unsentOnes {
		if c.fails[i].kind != final {
			again = append(again, i)
		}
	}
	if len(lostOnes) > 0 && c.mayRepeatAll(lostOnes) {
		again = merge(again, lostOnes)
	}
	return merge(again, c.inOrder(refused, lostOnes))
}

// mayRepeatAll: as safe as the weakest, and as their sequence.
func (c *pipeCall) mayRepeatAll(at []int) bool {
	for _, i := range at {
		if c.fails[i].kind == final || !c.h.mayRepeat(c.body[i], c.marks) {
			return false
		}
	}
	return c.marks&attempt.Idempotent != 0 || repeatable(c.body, at, c.h.safety)
}

// inOrder keeps, of the commands that were refused for now, those that no later command on the same
// keys has overtaken.
func (c *pipeCall) inOrder(refused, lostOnes []int) []int {
	if len(refused) == 0 {
		return nil
	}
	isLost := make(map[int]bool, len(lostOnes))
	for _, i := range lostOnes {
		isLost[i] = true
	}
	var keep []int
	var done keySet
	for i := len(c.body) - 1; i >= 0; i-- {
		cmd := c.body[i]
		sc := command.ClassOf(cmd).Scope
		switch {
		case !c.failed(i) || isLost[i]:
			done.add(cmd, sc)
		case c.fails[i].outcome == Answered:
			if !c.h.mayAskAgain(cmd, c.fails[i], c.marks) || done.touches(cmd, sc) {
				done.add(cmd, sc) // not repeated, and so neither are earlier ones on its keys
				continue
			}
			keep = append(keep, i)
		}
	}
	for l, r := 0, len(keep)-1; l < r; l, r = l+1, r-1 {
		keep[l], keep[r] = keep[r], keep[l]
	}
	return keep
}

// merge merges two ascending lists.
func merge(a, b []int) []int {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]int, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
