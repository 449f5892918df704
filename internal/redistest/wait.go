package redistest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Eventually polls cond until it holds, for d at most. After that the test
// fails with what, which should say what was awaited ("one client is left").
func Eventually(t testing.TB, what string, d time.Duration, cond func() bool) {
	t.Helper()
	pause := time.Millisecond
	for deadline := time.Now().Add(d); ; {
		if cond() {
			return
		}
		left := time.Until(deadline)
		if left <= 0 {
			t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(min(pause, left))
		pause = min(2*pause, 20*time.Millisecond)
	}
}

// UniqueKey is a key that no other test and no other run uses, made of the
// test's name and s. It has no hash tag unless s has one.
func UniqueKey(t testing.TB, s string) string {
	name := strings.NewReplacer("{", "(", "}", ")").Replace(t.Name())
	return fmt.Sprintf("lifeguard:%s:%s:%08x", name, s, rand.Uint32())
}
