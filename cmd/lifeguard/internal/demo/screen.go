package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
)

// screen prints lines that stay and, on a terminal, below them a part that is redrawn repeatedly.
// Elsewhere it prints a plain status line now and then.
type screen struct {
	w     io.Writer
	fd    int
	live  bool          // a terminal that can be redrawn
	color bool          // live, and NO_COLOR is not set
	every time.Duration // between two draws

	mu    sync.Mutex
	drawn []string // the live part, as it stands on the screen
}

func newScreen(w io.Writer, whole time.Duration) *screen {
	s := &screen{w: w, every: max(min(whole/10, 5*time.Second), 100*time.Millisecond)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		s.fd = int(f.Fd())
		s.live = true
		s.color = os.Getenv("NO_COLOR") == ""
		s.every = 200 * time.Millisecond
	}
	return s
}

// printf adds lines that stay.
func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.erase() + fmt.Sprintf(format, args...) + strings.Join(s.drawn, ""))
}

// width is how many columns there are.
func (s *screen) width() int { return show.Width(s.w, 80) }

// title begins a section.
func (s *screen) title(text string) {
	text = strings.TrimSuffix(wrapAt(text, "", "", s.width()), "\n")
	if s.color {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	s.printf("\n%s\n", text)
}

// draw replaces the live part by status and table. Where nothing can be replaced it prints only the
// status.
func (s *screen) draw(status string, table func() []string) {
	if !s.live {
		s.printf("  %s\n", status)
		return
	}
	width, height, err := term.GetSize(s.fd)
	if err != nil || width < 1 {
		width, height = 80, 24
	}
	lines := append([]string{"", status}, table()...)
	lines = lines[:min(len(lines), max(height-1, 1))]
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.erase()
	s.drawn = s.drawn[:0]
	for i, l := range lines {
		l = clip("  "+l, width-1)
		if s.color && i != 1 {
			l = "\x1b[2m" + l + "\x1b[0m"
		}
		s.drawn = append(s.drawn, l+"\n")
	}
	s.write(out + strings.Join(s.drawn, ""))
}

// clear removes the live part.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.erase())
	s.drawn = nil
}

// erase returns the escape codes that remove the live part from the terminal.
func (s *screen) erase() string {
	if len(s.drawn) == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\x1b[J", len(s.drawn))
}

func (s *screen) write(text string) {
	if text != "" {
		_, _ = io.WriteString(s.w, text)
	}
}

func clip(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(width, 0)])
	}
	return s
}

// sayf prints prose, wrapped at the width of the screen.
func (d *demo) sayf(format string, args ...any) { d.wrap("  ", format, args...) }

// quote prints somebody else's text.
func (d *demo) quote(text string) { d.wrap("    ", "%s", text) }

// wrap prints text behind a margin; further lines start below its first word.
func (d *demo) wrap(margin, format string, args ...any) {
	d.screen.printf("%s", wrapAt(fmt.Sprintf(format, args...), margin, strings.Repeat(" ", len(margin)), d.screen.width()))
}
