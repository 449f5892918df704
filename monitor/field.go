package monitor

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// ofNodes is the prefix of a field that is known for the whole client only.
const ofNodes = "nodes."

// Known reports whether a field has a meaningful value. field is one of [Fields], for the client as
// a whole; with the prefix "nodes.", for each node.
func (s Stats) Known(field string) bool {
	return !slices.Contains(s.Unknown, field) && !slices.Contains(s.Unknown, strings.TrimPrefix(field, ofNodes))
}

// Fields returns the JSON names of the fields of [Numbers].
func Fields() []string { return slices.Clone(fieldNames()) }

var fieldNames = sync.OnceValue(func() (names []string) {
	for f := range reflect.TypeFor[Numbers]().Fields() {
		names = append(names, f.Tag.Get("json"))
	}
	return names
})

// gauges are the fields before the counters.
func gauges() []string { return fieldNames()[:slices.Index(fieldNames(), "hits")] }
