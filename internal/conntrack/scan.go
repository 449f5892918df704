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
	wrote  bool                 // a command that writes was among them, or may have been
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
				if name != s.last || rest != s.more {
					s.look(b[at:], n)
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
	last, more := le64(s.name[:8]), le64(s.name[8:])
	if last != s.last || more != s.more {
		s.look(s.name[:], s.size)
	}
	s.last, s.more = last, more
	s.want = isStateful(s.last)
}

// look finds out whether the command whose name has size bytes, at the start of b, may write. One
// with the name of the command before need not be looked at.
func (s *scanner) look(b []byte, size int) {
	if !s.wrote {
		s.wrote = size > len(s.name) || command.WritesByName(string(b[:size]))
	}
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
	s.lost, s.wrote = true, true
	s.state |= command.Untracked
}

// reset forgets everything: the handshake is over, the connection has no session state.
func (s *scanner) reset() { *s = scanner{} }
