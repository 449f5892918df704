// Package slotmap renews the slot map of a cluster client when something says that it is old, and
// lets calls wait for the first one within their own time. go-redis loads the map without regard for
// the ctx of a call, and asks any node, which may not have learned of a failover yet. It knows
// nothing of package managed, except that an error names it, because users meet it there.
package slotmap
