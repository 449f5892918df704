package command

import (
	"slices"
	"strings"
)

// SessionState is the state that commands leave on their connection, as bits.
type SessionState uint8

const (
	InMulti   SessionState = 1 << iota // a transaction is open: ended by EXEC or DISCARD
	Watching                           // keys are watched: ended by EXEC, DISCARD or UNWATCH
	Changed                            // SELECT, AUTH, CLIENT TRACKING and the like: cannot be undone
	PubSub                             // a subscription or MONITOR: the server sends without being asked
	ForNext                            // ASKING, CLIENT CACHING: holds for the next command only
	Untracked                          // the stream of requests could not be parsed
)

// sessions are the columns of the table about SessionState. A test of internal/conntrack checks
// them against the commands of a live server.
var sessions = []struct {
	names        string
	leaves, ends SessionState
}{
	{"multi", InMulti, 0},
	{"exec discard", 0, InMulti | Watching},
	{"watch", Watching, 0},
	{"unwatch", 0, Watching},
	{"subscribe psubscribe ssubscribe monitor sync psync", PubSub, 0},
	{"unsubscribe punsubscribe sunsubscribe", Changed, 0}, // a reply for each channel, of which a caller reads one
	{"select auth hello reset readonly readwrite quit replconf", Changed, 0},
	{`client|tracking client|reply client|setname client|setinfo client|no-evict client|no-touch client|capa
		client|import-source client|maint_notifications script|debug`, Changed, 0},
	{"asking client|caching", ForNext, 0},
}

// After returns the state after a command on a connection in state s. name and sub are its first
// two arguments, in any case.
func (s SessionState) After(name, sub string) SessionState {
	r := lookup(name)
	if r != nil && r.is&container != 0 {
		r = lookup(r.name + "|" + sub)
	}
	if r == nil || r.ends == Watching && s&InMulti != 0 { // inside MULTI, UNWATCH is only queued
		return s
	}
	return s&^r.ends | r.leaves
}

// Stateful returns the first arguments, in lower case, of all commands that may change the state of
// a connection.
func Stateful() []string {
	var names []string
	for _, x := range sessions {
		for name := range strings.FieldsSeq(x.names) {
			name, _, _ = strings.Cut(name, "|")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
