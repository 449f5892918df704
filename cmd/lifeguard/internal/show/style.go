// Package show formats output for a terminal or a pipe: tables, colours, numbers with units.
package show

import (
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/term"
)

// Style marks text. The zero Style marks nothing. It is a value.
type Style struct{ color bool }

// StyleOf uses colours if w is a terminal that supports them, and NO_COLOR is unset or empty
// (https://no-color.org).
func StyleOf(w io.Writer) Style {
	return Style{color: IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Colored uses colours, whatever the output is.
func Colored() Style { return Style{color: true} }

// Plain reports whether the Style marks nothing.
func (s Style) Plain() bool { return !s.color }

// IsTerminal reports whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width returns the number of columns of w if it is a terminal, else otherwise.
func Width(w io.Writer, otherwise int) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return otherwise
}

// Share marks text by how full something is: red from 95 %, yellow from 80 %.
func (s Style) Share(share float64, text string) string {
	switch {
	case share >= 0.95:
		return s.Red(text)
	case share >= 0.8:
		return s.Yellow(text)
	}
	return text
}

// Bar returns a bar of a width, filled to a share of it. A small share is never shown as nothing.
func Bar(share float64, width int) string {
	n := int(math.Ceil(min(max(share, 0), 1) * float64(width)))
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

func (s Style) mark(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold and the others mark text.
func (s Style) Bold(text string) string    { return s.mark("1", text) }
func (s Style) Dim(text string) string     { return s.mark("2", text) }
func (s Style) Red(text string) string     { return s.mark("1;31", text) }
func (s Style) Yellow(text string) string  { return s.mark("33", text) }
func (s Style) Green(text string) string   { return s.mark("32", text) }
func (s Style) Reverse(text string) string { return s.mark("7", text) }
