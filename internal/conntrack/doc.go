// Package conntrack attaches to go-redis: tracked connections, the visit, the command hook and the
// health of a node. It knows go-redis, and package hooks for what users see of connections; policy
// (such as how old a connection may get, or which callbacks are called) is decided by its user,
// usually package managed.
//
// The two mechanisms:
//
// A tracked connection ([Conn]) wraps every connection that go-redis dials, through Options.Dialer.
// It knows its id, node, age, traffic, the state that commands left on it and why it ended, and
// turns network errors into [*hooks.ConnError], which says whether a command had left the process.
//
// A visit is a PING with a private token that is run like any command, so that go-redis takes a
// connection out of its pool for it. The tracked connection recognises the token and replies
// without touching the network, refuses it (go-redis then removes the connection, and its own
// counts stay correct) or sends a real PING instead. Nothing is ever closed without the pool
// knowing.
package conntrack
