package conntrack

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
