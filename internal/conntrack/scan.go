package conntrack

import (
	"strings"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// scanner parses the requests written to a connection, in pieces of any size, to know the name of
// the last command and the state that commands leave behind. It belongs to the writing side and is
// not safe for concurrent use. Requests are arrays of bulk strings
// (https://redis.io/docs/latest/develop/reference/protocol-spec/).
type scanner struct {
	args int // arguments of the current command still to come
	skip int // bytes of the current argument still to come, its CRLF included
	size int // its length without the CRLF
	arg  int // index of the argument that follows

	name  [16]byte // first argument of a command that may matter, upper case
	nameN int
	sub   [20]byte // its second argument
	subN  int
	want  bool // the command may matter: collect its second argument too

	head  [24]byte // a header line cut by the end of a write
	headN int
	coll  int // 0 nothing, 1 collecting name, 2 collecting sub

	lost   bool
	begun  uint32               // commands
	reauth bool                 // the AUTH is go-redis's own, with new credentials of the same user
	state  command.SessionState // state that the commands left
	last   uint64               // first 8 bytes of the last command's name, as written
	more   uint64               // the next 8
}

// feed parses b. It never fails: a stream that it cannot parse is marked Untracked.
func (s *scanner) feed(b []byte) {
	for len(b) > 0 && !s.lost {
		if s.args == 0 && s.headN == 0 {
			if n := s.whole(b); n > 0 {
				b = b[n:]
				continue
			}
		}
		if s.skip > 0 {
			n := min(s.skip, len(b))
			if s.coll != 0 {
				s.collect(b[:n])
			}
			s.skip -= n
			b = b[n:]
			if s.skip == 0 {
				s.argDone()
			}
			continue
		}
		b = s.header(b)
	}
}

// whole skips the commands at the start of b, and returns their length, as far as b holds all of
// them and they leave no state behind, as nearly all commands do. It returns 0 if the first must be
// parsed byte by byte.
func (s *scanner) whole(b []byte) (done int) {
	var last, more uint64
	// The first bytes of the command before, up to its first argument: most commands of a pipeline
	// begin like the one before them.
	var head [2]uint64
	var mask [2]uint64
	headArgs, headLen := 0, 0

	for len(b)-done >= 16 && b[done] == '*' {
		at, args, i := done, headArgs, 1
		if headLen > 0 && le64(b[at:])&mask[0] == head[0] && le64(b[at+8:])&mask[1] == head[1] {
			at += headLen
		} else {
			var size int
			if args, size = shortHeader(b[at:]); size == 0 {
				args, size = parseHeader(b[at:])
			}
			if args == 0 || size <= 0 {
				break
			}
			i = 0
			at += size
		}
		for ; i < args; i++ {
			if at >= len(b) || b[at] != '$' {
				break
			}
			n, size := shortHeader(b[at:])
			if size == 0 {
				if n, size = parseHeader(b[at:]); size <= 0 {
					break
				}
			}
			at += size
			if i == 0 {
				if at+16 > len(b) {
					break
				}
				name, rest := le64(b[at:])&firstBytes(n), le64(b[at+8:])&firstBytes(n-8)
				if isStateful(name) {
					break
				}
				last, more = name, rest
				headArgs, headLen = args, at+n+2-done
				if headLen > 16 {
					headLen = 0
				}
				mask[0], mask[1] = firstBytes(headLen), firstBytes(headLen-8)
				head[0], head[1] = le64(b[done:])&mask[0], le64(b[done+8:])&mask[1]
			}
			if at += n + 2; at > len(b) {
				break
			}
		}
		if i < args || at > len(b) {
			break
		}
		done = at
		s.begun++
		s.last, s.more = last, more
	}
	if done > 0 {
		s.state &^= command.ForNext
	}
	return done
}

// shortHeader is parseHeader for numbers of one or two digits, as most are; size is 0 for others.
func shortHeader(b []byte) (n, size int) {
	if len(b) < 5 {
		return 0, 0
	}
	tens, ones := b[1]-'0', b[2]-'0'
	switch {
	case tens > 9:
		return 0, 0
	case b[2] == '\r' && b[3] == '\n':
		return int(tens), 4
	case ones <= 9 && b[3] == '\r' && b[4] == '\n':
		return int(tens)*10 + int(ones), 5
	}
	return 0, 0
}

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

// header reads one "*N" or "$N" line, continuing in s.head if a write ended inside it.
func (s *scanner) header(b []byte) []byte {
	if s.headN == 0 {
		if n, size := parseHeader(b); size > 0 {
			s.begin(b[0], n)
			return b[size:]
		} else if size < 0 {
			s.lose()
			return nil
		}
	}
	for i, ch := range b { // slow path: collect the line byte by byte
		if s.headN == len(s.head) {
			s.lose()
			return nil
		}
		s.head[s.headN] = ch
		s.headN++
		if ch == '\n' {
			n, size := parseHeader(s.head[:s.headN])
			if size != s.headN {
				s.lose()
				return nil
			}
			first := s.head[0]
			s.headN = 0
			s.begin(first, n)
			return b[i+1:]
		}
	}
	return nil
}

// parseHeader parses "*N\r\n" or "$N\r\n" at the start of b. size is the length
// of the line, 0 where b ends inside it, -1 where it is malformed.
func parseHeader(b []byte) (n, size int) {
	if b[0] != '*' && b[0] != '$' {
		return 0, -1
	}
	for i := 1; i < len(b); i++ {
		switch ch := b[i]; {
		case ch >= '0' && ch <= '9':
			if n = n*10 + int(ch-'0'); n > 1<<40 {
				return 0, -1
			}
		case ch == '\r' && i > 1:
			if i+1 == len(b) {
				return 0, 0
			}
			if b[i+1] != '\n' {
				return 0, -1
			}
			return n, i + 2
		default:
			return 0, -1
		}
	}
	return 0, 0
}

func (s *scanner) begin(kind byte, n int) {
	if kind == '*' {
		if s.args != 0 || n == 0 {
			s.lose()
			return
		}
		s.begun++
		s.args, s.arg, s.want, s.nameN, s.subN = n, 0, false, 0, 0
		s.state &^= command.ForNext
		return
	}
	if s.args == 0 {
		s.lose()
		return
	}
	s.skip, s.size = n+2, n
	switch {
	case s.arg == 0:
		s.coll = 1
	case s.arg == 1 && s.want:
		s.coll = 2
	default:
		s.coll = 0
	}
}

func (s *scanner) collect(b []byte) {
	if s.coll == 1 {
		s.nameN += copy(s.name[s.nameN:], b)
	} else {
		s.subN += copy(s.sub[s.subN:], b)
	}
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

func (s *scanner) argDone() {
	switch s.coll {
	case 1:
		s.named()
	case 2:
		s.subN = min(s.subN, s.size)
	}
	s.coll = 0
	s.arg++
	if s.args--; s.args == 0 && s.want {
		s.apply()
	}
}

func (s *scanner) named() {
	s.nameN = min(s.nameN, s.size)
	clear(s.name[s.nameN:])
	s.last = le64(s.name[:8])
	s.more = le64(s.name[8:])
	s.want = isStateful(s.last)
}

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

// apply records what state the command that just ended leaves on its connection.
func (s *scanner) apply() {
	name := string(s.name[:s.nameN])
	if s.reauth && strings.EqualFold(name, "auth") {
		return
	}
	s.state = s.state.After(name, string(s.sub[:s.subN]))
}

func (s *scanner) lose() {
	s.lost = true
	s.state |= command.Untracked
}

// reset forgets everything: the handshake is over, the connection has no session state.
func (s *scanner) reset() { *s = scanner{} }

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
