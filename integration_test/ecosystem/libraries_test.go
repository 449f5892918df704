package ecosystem_test

import (
	"slices"
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// compare performs lib on both sides, which have to say and to see the same. It returns what
// the hook of the bare one saw.
func compare(t *testing.T, s *redistest.Server, lib library, sides []side) []string {
	t.Helper()
	var said, seen [][]string
	for _, who := range sides {
		a, b := perform(t, s, lib, who, false)
		if lib.polls {
			slices.Sort(b)
			b = slices.Compact(b)
		}
		said, seen = append(said, a), append(seen, b)
	}
	if len(said[0]) == 0 {
		t.Fatal("nothing was tried")
	}
	if !slices.Equal(said[0], said[1]) {
		t.Errorf("bare:    %q\nmanaged: %q", said[0], said[1])
	}
	if !slices.Equal(seen[0], seen[1]) {
		t.Errorf("a hook saw, bare:    %q\na hook saw, managed: %q", seen[0], seen[1])
	}
	return seen[0]
}

func TestALibraryGivesTheSameResultsAndAHookSeesTheSameCommands(t *testing.T) {
	s := redistest.Start(t)
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) {
			if seen := compare(t, s, lib, sides()); len(seen) == 0 {
				t.Fatal("nothing was tried")
			}
		})
	}
}

func TestALibraryGivesTheSameResultsIfConnectionsAreKilledBeforeEachCall(t *testing.T) {
	s := redistest.Start(t)
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) {
			undisturbed, _ := perform(t, s, lib, sides()[0], false)
			for _, who := range sides() {
				if said, _ := perform(t, s, lib, who, true); !slices.Equal(said, undisturbed) {
					t.Errorf("nothing killed: %q\n%s: %q", undisturbed, who.name, said)
				}
			}
		})
	}
}

func TestALibraryKeepsItsPromiseWhileConnectionsAreKilledUnderTraffic(t *testing.T) {
	s := redistest.Start(t)
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) {
			for _, who := range sides() {
				strain(t, s, lib, who)
			}
		})
	}
}
