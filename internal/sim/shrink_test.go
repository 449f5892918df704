//go:build unix

package sim

import (
	"slices"
	"testing"
	"time"
)

// shrink leaves out callers, faults and calls while the scenario fails alike.
func shrink(t *testing.T, s Scenario, p *Played, f Failure) (Scenario, *Played, Failure) {
	plays, until := 0, time.Now().Add(20*time.Second)
	try := func(change func(*Scenario)) {
		if plays++; plays > 400 || time.Now().After(until) {
			return
		}
		smaller := s
		smaller.Callers, smaller.Faults = slices.Clone(s.Callers), slices.Clone(s.Faults)
		change(&smaller)
		q := play(t, smaller)
		for _, g := range q.Failures {
			if g.name() == f.name() {
				s, p, f = smaller, q, g
				return
			}
		}
	}
	for i := len(s.Callers) - 1; i >= 0; i-- {
		try(func(s *Scenario) { s.Callers = slices.Delete(s.Callers, i, i+1) })
	}
	for i := len(s.Faults) - 1; i >= 0; i-- {
		try(func(s *Scenario) { s.Faults = slices.Delete(s.Faults, i, i+1) })
	}
	for i := range s.Callers {
		for n := len(s.Callers[i]) / 2; n > 0; n /= 2 {
			for at := len(s.Callers[i]) - n; at >= 0; at -= n {
				try(func(s *Scenario) { s.Callers[i] = s.Callers[i].without(at, n) })
			}
		}
	}
	return s, p, f
}

// without leaves calls out; the others stay when they were.
func (c Caller) without(at, n int) Caller {
	c = slices.Clone(c)
	gap := time.Duration(0)
	for _, call := range c[at : at+n] {
		gap += call.Think
	}
	if c = slices.Delete(c, at, at+n); at < len(c) {
		c[at].Think += gap
	}
	return c
}
