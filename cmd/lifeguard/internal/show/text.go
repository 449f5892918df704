package show

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// Clean makes text from elsewhere safe for a terminal: characters that are not printable become
// question marks, so that a client's name cannot move the cursor.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// Seconds formats a time with its two largest units: "3d4h", "5m12s", "0s". A time below a minute
// that is not in whole seconds is not rounded down: "500ms".
func Seconds(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case d > 0 && d < time.Minute && d%time.Second != 0:
		return Short(d)
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return pair(s/60, "m", s%60, "s")
	case s < 24*3600:
		return pair(s/3600, "h", s/60%60, "m")
	default:
		return pair(s/(24*3600), "d", s/3600%24, "h")
	}
}

func pair(a int64, ua string, b int64, ub string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, ua)
	}
	return fmt.Sprintf("%d%s%d%s", a, ua, b, ub)
}

// Short formats a short time with three digits: "213µs", "1.24ms", "2.5s".
func Short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}

// Bytes formats a size: "512 B", "20 kB", "1.5 MB".
func Bytes(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}

// Wrap breaks text into lines of at most width, each after the first with the margin.
func Wrap(text string, width, margin int) string {
	var b strings.Builder
	at := margin
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", margin))
			at = margin
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// Fitting joins the parts that fit into width columns, the first ones first. A width of 0 is no
// limit. Escape codes take no room.
func Fitting(parts []string, between string, width int) string {
	if len(parts) == 0 {
		return ""
	}
	line := parts[0]
	for _, p := range parts[1:] {
		if longer := line + between + p; width <= 0 || ansi.StringWidth(longer) <= width {
			line = longer
		}
	}
	return line
}

// JSON writes v, indented, and a newline.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
