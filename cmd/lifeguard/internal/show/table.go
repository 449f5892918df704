package show

import (
	"strings"
	"unicode/utf8"
)

// Column is a column of a table. Numbers stand to the right.
type Column struct {
	Name  string
	Right bool
}

// Table makes lines, the first of which is the header. Cells are cleaned. Columns
// that are empty in all rows are left out.
func Table(cols []Column, rows [][]string) []string {
	widths := make([]int, len(cols))
	filled := make([]bool, len(cols))
	cells := make([][]string, 0, len(rows)+1)
	head := make([]string, len(cols))
	for i, c := range cols {
		head[i] = c.Name
		widths[i] = utf8.RuneCountInString(c.Name)
	}
	cells = append(cells, head)
	for _, r := range rows {
		line := make([]string, len(cols))
		for i := range cols {
			line[i] = Clean(r[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
			filled[i] = filled[i] || line[i] != ""
		}
		cells = append(cells, line)
	}
	out := make([]string, len(cells))
	for n, line := range cells {
		var b strings.Builder
		for i, c := range cols {
			if !filled[i] && len(rows) > 0 {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("  ")
			}
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(line[i]))
			if c.Right {
				b.WriteString(gap + line[i])
			} else {
				b.WriteString(line[i] + gap)
			}
		}
		out[n] = strings.TrimRight(b.String(), " ")
	}
	return out
}

// Clip cuts a line without marks to a width.
func Clip(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:max(width, 0)])
}
