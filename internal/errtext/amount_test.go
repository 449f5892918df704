package errtext_test

import (
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

func TestOneOfSomethingIsSingular(t *testing.T) {
	if got := errtext.Count(0, "call") + ", " + errtext.Count(int64(1), "call") + ", " + errtext.Count(uint64(2), "call"); got != "0 calls, 1 call, 2 calls" {
		t.Error(got)
	}
}
