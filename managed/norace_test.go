//go:build !race

package managed_test

const raced = false
