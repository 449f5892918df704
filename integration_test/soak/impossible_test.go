package soak

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The calls of each history are made one after the other.
func TestImpossibleHistoriesAreReported(t *testing.T) {
	type done struct {
		what, value string
		reply       string
		unknown     bool
	}
	for name, c := range map[string]struct {
		object string
		calls  []done
		want   porcupine.CheckResult
	}{
		"a counter that counts":                 {"counter", []done{{what: "incr", reply: "1"}, {what: "incr", reply: "2"}, {what: "get", reply: "2"}}, porcupine.Ok},
		"an INCR that was executed twice":       {"counter", []done{{what: "incr", reply: "1"}, {what: "get", reply: "2"}}, porcupine.Illegal},
		"an INCR that is lost":                  {"counter", []done{{what: "incr", reply: "1"}, {what: "incr", reply: "1"}}, porcupine.Illegal},
		"an unknown INCR that took effect late": {"counter", []done{{what: "incr", unknown: true}, {what: "incr", reply: "1"}, {what: "get", reply: "2"}}, porcupine.Ok},
		"an unknown INCR that never happened":   {"counter", []done{{what: "incr", unknown: true}, {what: "get", reply: ""}}, porcupine.Ok},
		"an unknown INCR that happened twice":   {"counter", []done{{what: "incr", unknown: true}, {what: "get", reply: "2"}}, porcupine.Illegal},
		"a register that forgets":               {"register", []done{{what: "set", value: "a", reply: "OK"}, {what: "get", reply: ""}}, porcupine.Illegal},
		"a register that tells what was": {"register", []done{{what: "set", value: "a", reply: "OK"}, {what: "getset", value: "b", reply: "a"},
			{what: "get", reply: "b"}}, porcupine.Ok},
		"a register whose old value comes back": {"register", []done{{what: "set", value: "a", reply: "OK"}, {what: "set", value: "b", reply: "OK"},
			{what: "get", reply: "a"}}, porcupine.Illegal},
		"a member that two callers removed": {"set", []done{{what: "add", value: "0", reply: "1"}, {what: "remove", value: "0", reply: "1"},
			{what: "remove", value: "0", reply: "1"}}, porcupine.Illegal},
		"a member that nobody removed, and is gone": {"set", []done{{what: "add", value: "0", reply: "1"}, {what: "remove", value: "0", reply: "0"}}, porcupine.Illegal},
		"a queue in order": {"queue", []done{{what: "push", value: "a", reply: "1"}, {what: "push", value: "b", reply: "2"}, {what: "pop", reply: "a"},
			{what: "pop", reply: "b"}, {what: "pop", reply: ""}}, porcupine.Ok},
		"an element that was popped twice":              {"queue", []done{{what: "push", value: "a", reply: "1"}, {what: "pop", reply: "a"}, {what: "pop", reply: "a"}}, porcupine.Illegal},
		"an element that an unknown pop may have taken": {"queue", []done{{what: "push", value: "a", reply: "1"}, {what: "pop", unknown: true}, {what: "pop", reply: ""}}, porcupine.Ok},
		"an element that is lost":                       {"queue", []done{{what: "push", value: "a", reply: "1"}, {what: "pop", reply: ""}}, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			var ops []porcupine.Operation
			for i, d := range c.calls {
				op := porcupine.Operation{Input: call{c.object, d.what, d.value}, Call: int64(2 * i), Output: reply{d.reply, d.unknown}, Return: int64(2*i + 1)}
				if d.unknown {
					op.Return = math.MaxInt64
				}
				ops = append(ops, op)
			}
			if got := porcupine.CheckOperationsTimeout(model, ops, 10*time.Second); got != c.want {
				t.Errorf("%v, not %v", got, c.want)
			}
		})
	}
}
