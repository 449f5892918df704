package demo

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDocsShowEveryPhaseOfTheDemo(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/CLI.md")
	require.NoError(t, err)
	for _, list := range [][]phase{acts, phases} {
		for i, p := range list {
			require.Contains(t, string(doc), fmt.Sprintf("\n%d. %s\n", i+1, p.title))
		}
	}
}
