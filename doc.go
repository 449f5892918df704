// Package lifeguard keeps watch over go-redis connection pools. It holds no
// code of its own: package managed is the front door, hooks, retry and monitor
// are the parts, each usable alone on a plain go-redis client.
package lifeguard
