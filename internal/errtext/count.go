package errtext

import "fmt"

// Count writes a number of things: "1 lease", "2 leases".
func Count[N int | int64 | uint64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
