// Package conntrack is what hangs on go-redis: tracked connections, the visit,
// the command hook and the health of a node. It knows go-redis, and package hooks
// for what users see of connections; policy (how old a connection may get, who is told what) is
// decided by its user, usually package managed.
//
// The two mechanisms:
//
// A tracked connection ([Conn]) is put around every connection that go-redis
// dials, through Options.Dialer. It knows its id, node, age, traffic, the state
// that commands left on it and why it ended, and turns network errors into
// [*hooks.ConnError], which says whether a command had left the process.
//
// A visit is a PING with a private token that is run like any command, so that
// go-redis takes a connection out of its pool for it. The tracked connection
// recognises the token and answers it without touching the network, refuses it
// (go-redis then removes the connection, with its books in order) or sends a
// real PING instead. Nothing is ever closed behind the pool's back.
package conntrack
