package monitor

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// ofNodes stands before the name of a field that is known of the whole client only.
const ofNodes = "nodes."

// Known reports whether a field means something. The field is one of [Fields], for
// the client as a whole; with "nodes." before it, for each node.
func (s Stats) Known(field string) bool {
	return !slices.Contains(s.Unknown, field) && !slices.Contains(s.Unknown, strings.TrimPrefix(field, ofNodes))
}

// Fields returns the names in JSON of the fields of [Numbers].
func Fields() []string { return slices.Clone(fieldNames()) }

var fieldNames = sync.OnceValue(func() (names []string) {
	for f := range reflect.TypeFor[Numbers]().Fields() {
		names = append(names, f.Tag.Get("json"))
	}
	return names
})

// gauges are the fields before the counters.
func gauges() []string { return fieldNames()[:slices.Index(fieldNames(), "hits")] }
