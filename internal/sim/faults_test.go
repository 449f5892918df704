//go:build unix

package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var faulty = flag.String("faults", "", "find each fault of testdata/faults whose name matches: . for all, which takes minutes")

// TestEachKnownFaultCanBePutInAndIsFound puts the faults of testdata/faults into
// the code, one at a time, and with -faults plays at most 2000 seeds until an
// invariant breaks. Each file is a patch; its first lines say what is wrong and,
// after "found as: ", what class and kind of failure has to tell. The tree itself
// stays as it is. Its README.md says which row of what was found each stands for, and
// what becomes of those in the folder missed.
//
//	go test ./internal/sim -run Fault -v -faults . -timeout 30m
func TestEachKnownFaultCanBePutInAndIsFound(t *testing.T) {
	patches, err := filepath.Glob("testdata/faults/*.patch")
	if err != nil || len(patches) == 0 {
		t.Fatal("no patches", err)
	}
	asked := regexp.MustCompile(*faulty)
	for _, file := range patches {
		name := strings.TrimSuffix(filepath.Base(file), ".patch")
		if !asked.MatchString(name) {
			continue
		}
		t.Run(name, func(t *testing.T) { find(t, file) })
	}
}

var (
	patched = regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)`)
	foundAs = regexp.MustCompile(`(?m)^found as: (.+)$`)
	telling = regexp.MustCompile(`seed (\d+) breaks (.+)`)
)

func find(t *testing.T, file string) {
	patch, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	class := foundAs.FindSubmatch(patch)
	if class == nil {
		t.Fatal(file, "does not say how it is found")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for _, m := range patched.FindAllSubmatch(patch, -1) {
		name := string(m[1])
		to := filepath.Join(dir, name)
		code, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, code, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, name)] = to
	}
	apply := exec.Command("git", "apply", "-")
	apply.Dir = dir
	apply.Stdin = strings.NewReader(string(patch))
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("the code has changed, make the patch anew: %v\n%s", err, out)
	}
	if *faulty == "" {
		return // finding it takes up to a minute
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-count=1", "-vet=off", ".", "-run", "Sim$", "-v",
		"-timeout", "20m", "-seeds", "2000", "-stop", "-small=false", "-only", "^("+string(class[1])+")").CombinedOutput()
	told := telling.FindSubmatch(out)
	switch {
	case err != nil && told != nil:
		t.Logf("found by seed %s: %s", told[1], told[2])
	case err != nil:
		t.Errorf("it could not be played: %v\n%.3000s", err, out)
	default:
		t.Errorf("not found within 2000 seeds:\n%.3000s", out)
	}
}
