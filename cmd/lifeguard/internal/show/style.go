// Package show puts things on a terminal or into a pipe: tables, colours, numbers
// with units.
package show

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Style marks text. The zero Style marks nothing. It is a value.
type Style struct{ color bool }

// StyleOf is with colours if w is a terminal that has them, and NO_COLOR is not set
// or empty (https://no-color.org).
func StyleOf(w io.Writer) Style {
	return Style{color: IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// Colored is with colours, whatever the output is.
func Colored() Style { return Style{color: true} }

// IsTerminal reports whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width is how many columns w has: of a terminal its own, elsewhere otherwise.
func Width(w io.Writer, otherwise int) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return otherwise
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
