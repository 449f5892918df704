// Package delivery passes values to the functions of users: events to a handler, stats and alerts to
// callbacks.
package delivery
