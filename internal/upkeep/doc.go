// Package upkeep keeps the pools of a client right with nobody calling. It closes
// connections that are too old or not needed, sends a PING over those that have been
// silent for too long, and finds out which are dead when one of them has failed. It says
// what is to happen to a connection; conntrack does it, in a visit.
//
// Each Node has a schedule of its own, so that one whose server hangs delays no other.
// Nothing runs, and there is no timer, while nothing is due.
package upkeep
