// Package upkeep maintains the pools of a client in the background. It closes connections that are
// too old or not needed, sends a PING over those that have been idle for too long, and finds out
// which ones are dead after one of them has failed. It decides what happens to a connection;
// conntrack does it, in a visit.
//
// Each Node has its own schedule, so a node whose server hangs delays no other. While nothing is
// due, there is no goroutine and no timer.
package upkeep
