package server

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// info is a reply of INFO: its fields, without the sections.
type info struct {
	values    map[string]string
	ambiguous map[string]bool // occurred more than once, with different values
	malformed int             // lines that are neither a field nor a section
}

func parseInfo(reply string) info {
	in := info{values: map[string]string{}, ambiguous: map[string]bool{}}
	for line := range strings.Lines(reply) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			in.malformed++
			continue
		}
		if old, twice := in.values[name]; twice && old != value {
			in.ambiguous[name] = true // normal for some: there is one "module" line for each
			continue
		}
		in.values[name] = value
	}
	return in
}

// reader reads fields of an info, and records those that cannot be parsed.
type reader struct {
	info
	unreadable []string
}

func (r *reader) text(name string) Opt[string] {
	v, ok := r.values[name]
	if !ok || v == "" {
		return Opt[string]{}
	}
	if r.ambiguous[name] {
		r.unreadable = append(r.unreadable, name+" (comes twice)")
		return Opt[string]{}
	}
	return Some(v)
}

// count reads a number that is not negative.
func (r *reader) count(name string) Opt[int64] {
	s := r.text(name)
	if !s.Known {
		if v, ok := r.values[name]; ok && v == "" {
			r.unreadable = append(r.unreadable, name+" (empty)")
		}
		return Opt[int64]{}
	}
	n, ok := number(s.Val)
	if !ok {
		r.unreadable = append(r.unreadable, name)
		return Opt[int64]{}
	}
	return Some(n)
}

func (r *reader) seconds(name string) Opt[time.Duration] {
	n := r.count(name)
	d, ok := seconds(n.Val)
	if n.Known && !ok {
		r.unreadable = append(r.unreadable, name)
	}
	return Opt[time.Duration]{d, n.Known && ok}
}

// number parses digits and nothing else.
func number(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, false
	}
	return n, true
}

func seconds(n int64) (time.Duration, bool) {
	if n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}
