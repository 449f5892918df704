// Package redisopt handles the options of go-redis: which values are refused, which options of a
// cluster, ring or failover client are those of its nodes, what is turned off because it is done by
// lifeguard, and what the method Options returns. It knows nothing of package managed, except that
// the errors carry its name, because users meet them there.
package redisopt
