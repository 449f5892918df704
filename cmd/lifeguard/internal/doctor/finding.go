// Package doctor examines a server and the configuration of its clients, and reports problems,
// present and future.
package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Severity says how serious a finding is.
type Severity int

// In ascending order.
const (
	OK       Severity = iota // checked, no problem
	Note                     // worth knowing
	Warning                  // will hurt some day
	Critical                 // hurts now, or as soon as there is load
)

var severities = []string{"ok", "note", "warning", "critical"}

func (s Severity) String() string { return severities[s] }

// MarshalJSON writes the name.
func (s Severity) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON is the reverse.
func (s *Severity) UnmarshalJSON(b []byte) error {
	var name string
	if err := json.Unmarshal(b, &name); err != nil {
		return err
	}
	i := slices.Index(severities, name)
	if i < 0 {
		return fmt.Errorf("no severity %q", name)
	}
	*s = Severity(i)
	return nil
}

// Finding is something about a server or a client. It is a value.
type Finding struct {
	ID       string   `json:"id"` // stable, for scripts
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`
	Change   string   `json:"change,omitempty"` // the line to change
	Nodes    []string `json:"nodes,omitempty"`  // of a cluster: those it is about
}

// merge combines findings about several nodes into one, and sorts the worst first.
func merge(all []Finding) []Finding {
	var out []Finding
	for _, f := range all {
		i := slices.IndexFunc(out, func(o Finding) bool {
			return o.ID == f.ID && o.Severity == f.Severity && o.What == f.What && o.Why == f.Why && o.Change == f.Change
		})
		if i < 0 {
			out = append(out, f)
			continue
		}
		out[i].Nodes = append(out[i].Nodes, f.Nodes...)
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return int(b.Severity - a.Severity) })
	return out
}

// worst returns the highest severity, OK if there are no findings.
func worst(all []Finding) Severity {
	s := OK
	for _, f := range all {
		s = max(s, f.Severity)
	}
	return s
}

// serverLine returns the line that changes a setting of the server.
func serverLine(name string, value any) string {
	return fmt.Sprintf("redis.conf: %s %v   (at once: CONFIG SET %s %v)", name, value, name, value)
}

// goLine returns the line that changes a field of redis.Options, and its form in a URL.
func goLine(field string, value any, param string) string {
	line := fmt.Sprintf("redis.Options{%s: %v}", field, value)
	if param != "" {
		line += "   (in a URL: " + param + ")"
	}
	return line
}

func or(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(parts, "\nor: ")
}
