package demo

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// sourceDir is the directory in which this package was compiled, as shown in stacks.
var sourceDir = func() string {
	_, file, _, _ := runtime.Caller(0)
	return path.Dir(file)
}()

// shorten reduces paths of this package's files to their names.
func shorten(s string) string { return strings.ReplaceAll(s, sourceDir+"/", "") }

// stackOf makes an event's stack readable: one line per function of the demo.
func stackOf(stack string) string {
	var b strings.Builder
	lines := strings.Split(strings.TrimSpace(stack), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		fn := lines[i]
		fmt.Fprintf(&b, "    %-28s %s\n", fn[strings.LastIndex(fn, "/")+1:], path.Base(strings.TrimSpace(lines[i+1])))
		if strings.HasSuffix(fn, "runPhases") {
			break // the rest adds nothing
		}
	}
	return b.String()
}

// wrapAt breaks text into lines of at most width columns, between words where possible. The first
// line begins with first, the others with rest.
func wrapAt(text, first, rest string, width int) string {
	var b strings.Builder
	line, empty := first, true
	for _, word := range strings.Fields(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			b.WriteString(line + "\n")
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	b.WriteString(line + "\n")
	return b.String()
}

func indent(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}
