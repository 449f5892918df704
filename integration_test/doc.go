// Package integration holds the tests that want a server in a container, or
// anything else heavy: it is a module of its own, so that none of that gets
// into the requirements of those who use lifeguard.
//
// The shared server is, in this order: the one at LIFEGUARD_REDIS_URL; a
// container of LIFEGUARD_REDIS_IMAGE (default redis:8) where a container engine
// answers, unless LIFEGUARD_NO_CONTAINER=true; a redis-server program
// (LIFEGUARD_REDIS_BIN, else on PATH). With none of them the tests skip, and
// fail with CI=true.
package integration
