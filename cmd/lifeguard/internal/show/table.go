package show

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Column is a column of a table. Numbers are right-aligned.
type Column struct {
	Name  string
	Right bool
	// Min is how far the column may be narrowed if there is little room: its values are then cut
	// and end in "…". 0: it keeps its width.
	Min int
	// Rank says which columns are dropped if that is not enough: the one with the highest Rank
	// first. 0: never dropped.
	Rank int
}

// gap is between two columns.
const gap = 2

// Table makes lines of at most width columns, the first of which is the header. A
// width of 0 is no limit. Cells are cleaned. Columns that are empty in all rows are
// left out.
func Table(cols []Column, rows [][]string, width int) []string {
	cells := make([][]string, 0, len(rows)+1)
	head := make([]string, len(cols))
	for i, c := range cols {
		head[i] = c.Name
	}
	cells = append(cells, head)
	filled := make([]bool, len(cols))
	for _, r := range rows {
		line := make([]string, len(cols))
		for i := range cols {
			line[i] = Clean(r[i])
			filled[i] = filled[i] || line[i] != ""
		}
		cells = append(cells, line)
	}
	var shown []int
	widths := make([]int, len(cols))
	for i := range cols {
		if !filled[i] && len(rows) > 0 {
			continue
		}
		shown = append(shown, i)
		for _, line := range cells {
			widths[i] = max(widths[i], ansi.StringWidth(line[i]))
		}
	}
	if width > 0 {
		shown = fit(cols, shown, widths, width)
	}
	out := make([]string, len(cells))
	for n, line := range cells {
		var b strings.Builder
		for k, i := range shown {
			if k > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			text := ansi.Truncate(line[i], widths[i], "…")
			pad := strings.Repeat(" ", widths[i]-ansi.StringWidth(text))
			if cols[i].Right {
				b.WriteString(pad + text)
			} else {
				b.WriteString(text + pad)
			}
		}
		out[n] = Clip(strings.TrimRight(b.String(), " "), width)
	}
	return out
}

// fit narrows columns, and drops some, until the rest fits. It returns the columns to show.
func fit(cols []Column, shown, widths []int, width int) []int {
	for {
		total, least := -gap, -gap
		last := -1 // dropped next
		for _, i := range shown {
			total += gap + widths[i]
			least += gap + narrowest(cols[i], widths[i])
			if cols[i].Rank > 0 && (last < 0 || cols[i].Rank > cols[last].Rank) {
				last = i
			}
		}
		if total <= width {
			return shown
		}
		if least > width && last >= 0 {
			shown = slices.DeleteFunc(shown, func(i int) bool { return i == last })
			continue
		}
		for ; total > width; total-- {
			widest := -1
			for _, i := range shown {
				if widths[i] > narrowest(cols[i], widths[i]) && (widest < 0 || widths[i] > widths[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				return shown
			}
			widths[widest]--
		}
		return shown
	}
}

func narrowest(c Column, width int) int {
	if c.Min == 0 {
		return width
	}
	return min(c.Min, width)
}

// Clip cuts a line to a width, and leaves its marks as they are. A width of 0 is no
// limit.
func Clip(line string, width int) string {
	if width <= 0 {
		return line
	}
	return ansi.Truncate(line, width, "")
}
