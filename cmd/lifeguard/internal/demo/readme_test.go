package demo

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheREADMEShowsEveryPhaseOfTheDemo(t *testing.T) {
	readme, err := os.ReadFile("../../../../README.md")
	require.NoError(t, err)
	for i, p := range phases {
		require.Contains(t, string(readme), fmt.Sprintf("\n%d. %s\n", i+1, p.title))
	}
}
