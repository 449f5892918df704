package monitor

import (
	"encoding/json"
	"fmt"
)

// Var returns the Monitor's Stats for package expvar:
//
//	expvar.Publish("redis", m.Var())
//
// Its String method returns the current Stats as JSON. It does not use a type of package expvar,
// because importing that package serves /debug/vars on the default mux; importing it is up to the
// program.
func (m *Monitor) Var() fmt.Stringer { return variable{m} }

type variable struct{ m *Monitor }

func (v variable) String() string {
	b, err := json.Marshal(v.m.Stats())
	if err != nil { // not possible: every type in it can be written
		b, _ = json.Marshal(err.Error())
	}
	return string(b)
}
