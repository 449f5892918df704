// Package lifeguard contains no code. Package managed is the main package of lifeguard, which
// watches over go-redis connection pools; packages hooks, retry and monitor are its parts, each of
// which also works alone on a plain go-redis client.
package lifeguard
