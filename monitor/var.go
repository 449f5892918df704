package monitor

import (
	"encoding/json"
	"fmt"
)

// Var returns the Monitor's Stats for package expvar:
//
//	expvar.Publish("redis", m.Var())
//
// Its String is the Stats of the moment as JSON. It is not of a type of expvar, for
// that package serves /debug/vars from the default mux as soon as it is imported;
// whether it is, is up to the program.
func (m *Monitor) Var() fmt.Stringer { return variable{m} }

type variable struct{ m *Monitor }

func (v variable) String() string {
	b, err := json.Marshal(v.m.Stats())
	if err != nil { // it has no type that cannot be written
		b, _ = json.Marshal(err.Error())
	}
	return string(b)
}
