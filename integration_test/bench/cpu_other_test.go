//go:build !unix

package bench_test

import "time"

// processTime is not known.
func processTime() time.Duration { return 0 }
