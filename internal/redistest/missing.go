package redistest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// missed holds the tests that were skipped, by reason.
var missed struct {
	sync.Mutex
	tests map[string]int
}

// Missing ends a test because this machine lacks something. With CI=true that is a
// failure, as a test that skips there never runs. Elsewhere the test skips, and Main
// reports how many did.
func Missing(t testing.TB, why string) {
	t.Helper()
	why = strings.ReplaceAll(strings.TrimPrefix(why, "redistest: "), "\n", "; ") // joined errors have several lines
	if os.Getenv("CI") == "true" {
		t.Fatal("redistest:", why, "(with CI=true a skip is a failure)")
	}
	t.Cleanup(func() {
		if t.Skipped() { // tests of redistest have a testing.TB that is none
			miss(why)
		}
	})
	t.Skip(why)
}

func miss(why string) {
	missed.Lock()
	defer missed.Unlock()
	if missed.tests == nil {
		missed.tests = map[string]int{}
	}
	missed.tests[why]++
}

// tellMissed returns the line that reports skipped tests; "" if there were none.
func tellMissed() string {
	missed.Lock()
	defer missed.Unlock()
	if len(missed.tests) == 0 {
		return ""
	}
	sum := 0
	var reasons []string
	for why, n := range missed.tests {
		sum += n
		reasons = append(reasons, fmt.Sprintf("%d x %s", n, why))
	}
	slices.Sort(reasons)
	return fmt.Sprintf("redistest: %s: %d TESTS WERE SKIPPED: %s. scripts/test gets what they need.\n",
		filepath.Base(os.Args[0]), sum, strings.Join(reasons, "; "))
}

// shout writes to the standard error of the go command itself, if it can find it: go test
// hides the output of a package whose tests pass.
func shout(line string) {
	if line == "" {
		return
	}
	var w io.Writer = os.Stderr
	if f := parentStderr(); f != nil {
		defer f.Close()
		w = f
	}
	fmt.Fprint(w, line)
}

// parentStderr returns the standard error of the go command that runs these tests; nil if
// there is none, and on systems other than Linux.
func parentStderr() *os.File {
	proc := fmt.Sprintf("/proc/%d", os.Getppid())
	if exe, err := os.Readlink(proc + "/exe"); err != nil || filepath.Base(exe) != "go" {
		return nil
	}
	f, err := os.OpenFile(proc+"/fd/2", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil
	}
	return f
}
