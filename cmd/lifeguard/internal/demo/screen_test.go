package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnATerminalTheLivePartIsRedrawnBelowTheLinesThatStay(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, time.Second)
	require.False(t, s.live, "a buffer is not a terminal")
	s.live, s.fd = true, -1
	s.draw("status one", func() []string { return []string{"row", strings.Repeat("x", 200)} })
	s.printf("stays\n")
	s.draw("status two", func() []string { return nil })
	s.clear()
	s.printf("end\n")
	long := "  " + strings.Repeat("x", 77) // cut at the width of the terminal
	first := "  \n  status one\n  row\n" + long + "\n"
	require.Equal(t, first+"\x1b[4A\x1b[Jstays\n"+first+"\x1b[4A\x1b[J  \n  status two\n\x1b[2A\x1b[Jend\n", out.String())
}

func TestElsewhereTheStatusComesAsAPlainLine(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, time.Second)
	s.title("Title")
	s.draw("status", func() []string { return []string{"row"} })
	s.clear()
	require.Equal(t, "\nTitle\n  status\n", out.String())
}

func TestTextIsWrappedAtTheWidthOfTheScreen(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		text := wrapAt(strings.Repeat("word ", 60), "  said: ", "        ", width)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for i, l := range lines {
			require.LessOrEqual(t, len(l), width)
			require.Equal(t, i > 0, strings.HasPrefix(l, "        word"))
		}
		require.Equal(t, 60, strings.Count(text, "word"))
	}
}
