package retry_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/lifeguard-redis/lifeguard/retry"
)

var update = flag.Bool("update", false, "write docs/COMMANDS.md")

func TestThePageOfCommandsIsThatOfTheCode(t *testing.T) {
	const file = "../docs/COMMANDS.md"
	want := retry.Page()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the code says (%v): run go generate ./internal/command, or go test ./retry -run %s -update", file, err, t.Name())
	}
}

// A command whose class depends on its arguments has an example on the page.
func TestEveryCommandIsOnThePage(t *testing.T) {
	shown := map[string]bool{}
	for _, f := range retry.Forms() {
		words := strings.Fields(strings.ToLower(f.Text))
		shown[words[0]] = true
		if len(words) > 1 {
			shown[words[0]+"|"+words[1]] = true
		}
	}
	for _, name := range retry.Names() {
		if !shown[name] {
			t.Errorf("%s is not on the page: give it a form in internal/command/classes.go", name)
		}
	}
}
