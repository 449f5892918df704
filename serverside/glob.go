package serverside

import "errors"

// glob matches * (any text), ? (one byte) and \x (x itself). It is not
// path.Match: a name may have slashes and brackets.
func glob(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0 // where to resume after a mismatch: the last *, and how much it has matched
	for i < len(s) {
		if p < len(pattern) {
			switch c := pattern[p]; {
			case c == '*':
				star, from = p, i
				p++
				continue
			case c == '?':
				p++
				i++
				continue
			case c == '\\' && p+1 < len(pattern):
				if pattern[p+1] == s[i] {
					p += 2
					i++
					continue
				}
			case c == s[i]:
				p++
				i++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, i = star+1, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func checkGlob(pattern string) error {
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' {
			if i++; i == len(pattern) {
				return errors.New(`ends with a lone \`)
			}
		}
	}
	return nil
}
