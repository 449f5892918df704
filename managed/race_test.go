//go:build race

package managed_test

// raced: everything is several times slower.
const raced = true
