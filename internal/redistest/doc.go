// Package redistest gives tests real Redis servers, and a proxy that makes
// connections fail in the ways networks do. There are no mocks in it: what it
// starts is a redis-server (or valkey-server) process on loopback.
//
// Environment variables select the servers:
//
//	LIFEGUARD_REDIS_URL   the shared server of URL and Options, already running
//	LIFEGUARD_REDIS_BIN   the redis-server program, else the one on PATH
//	LIFEGUARD_VALKEY_BIN  the valkey-server program, else the one on PATH
//	CI=true               a test that finds no server fails; otherwise it skips
package redistest
