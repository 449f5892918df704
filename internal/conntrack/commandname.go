package conntrack

import (
	"strings"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// firstBytes returns a mask for the first n bytes of a word.
func firstBytes(n int) uint64 {
	switch {
	case n <= 0:
		return 0
	case n >= 8:
		return 1<<64 - 1
	}
	return 1<<(8*n) - 1
}

// stateful lists, by first letter, the first 8 letters of the commands that apply looks at.
var stateful = func() (t [26][]uint64) {
	for _, name := range command.Stateful() {
		var b [8]byte
		copy(b[:], strings.ToUpper(name))
		i := b[0] - 'A'
		t[i] = append(t[i], le64(b[:]))
	}
	return t
}()

const upperCase = ^uint64(0x2020202020202020) // clears the bit that makes an ASCII letter lower case

func isStateful(name uint64) bool {
	word := name & upperCase
	if c := byte(word) - 'A'; c < 26 {
		for _, w := range stateful[c] {
			if w == word {
				return true
			}
		}
	}
	return false
}

func le64(b []byte) uint64 {
	_ = b[7]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// unpackName turns the two words of a command name into text, lower case.
func unpackName(last, more uint64) string {
	var b [16]byte
	for i := range 8 {
		b[i] = byte(last >> (8 * i))
		b[8+i] = byte(more >> (8 * i))
	}
	n := 0
	for n < len(b) && b[n] != 0 {
		if b[n] >= 'A' && b[n] <= 'Z' {
			b[n] += 'a' - 'A'
		}
		n++
	}
	return string(b[:n])
}
