package command

import "strings"

// The classes of commands that depend on their arguments.

// readable reports whether all arguments from position from on can be read.
func readable(a Args, from int) bool {
	for i := from; i < len(a); i++ {
		if _, ok := a.Text(i); !ok {
			return false
		}
	}
	return true
}

// distinct counts the distinct arguments at and after position from, looking at every step-th one.
// One that cannot be read counts as distinct.
func distinct(a Args, from, step int) int {
	seen := make(map[string]struct{}, max(len(a)-from, 0)/step)
	n := 0
	for i := from; i < len(a); i += step {
		s, ok := a.Text(i)
		if _, had := seen[s]; ok && had {
			continue
		}
		n++
		if ok {
			seen[s] = struct{}{}
		}
	}
	return n
}

// different returns c for a command that counts the changes of the elements at and after position
// from. One that is given twice, with two scores, is changed by each execution.
func (c Class) different(a Args, from, step int) Class {
	n := distinct(a, from, step)
	if n < (len(a)-from+step-1)/step {
		return c.never()
	}
	return c.all(n)
}

// set: SET key value [NX|XX|IFEQ v|IFNE v|IFDEQ d|IFDNE d] [GET] [EX s|PX ms|EXAT t|PXAT t|KEEPTTL]
func set(a Args) Class {
	if len(a) < 3 {
		return no
	}
	v := constant
	for i := 3; i < len(a); i++ {
		switch a.lower(i) {
		case "ex", "px", "exat", "pxat":
			i++
		case "xx":
			v = again.value()
		case "keepttl":
			v.Constant = false
		default:
			return no
		}
	}
	return v
}

// msetex: MSETEX numkeys k v ... [NX|XX] [EX s|...|KEEPTTL]. It replies 1, or 0 if
// the condition does not hold.
func msetex(a Args) Class {
	n, ok := a.number(1)
	if !ok || n <= 0 || n >= int64(len(a)) || a.has(2+2*int(n), "nx") {
		return no
	}
	if a.has(2+2*int(n), "xx") {
		return again.positive()
	}
	return again
}

// getex: GETEX key [EX s|PX ms|EXAT t|PXAT t|PERSIST], and HGETEX with FIELDS after it. An expiry
// that may have passed by the second time removes the value: this includes anything shorter than a
// minute, and anything that depends on the server's clock.
func getex(a Args) Class {
	switch a.lower(2) {
	case "", "fields":
		return when(len(a) == 2 || a.Is(2, "fields"), read)
	case "persist":
		return again
	case "ex":
		n, ok := a.number(3)
		return when(ok && n >= 60, again.value())
	case "px":
		n, ok := a.number(3)
		return when(ok && n >= 60_000, again.value())
	}
	return no
}

// hsetex: HSETEX key [FNX|FXX] [EX s|...|KEEPTTL] FIELDS n f v ... It replies 1, or
// 0 if the condition does not hold.
func hsetex(a Args) Class {
	v := again
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "ex", "px", "exat", "pxat":
			i++
		case "fxx":
			v = again.positive()
		case "keepttl":
		case "fields":
			return v
		default:
			return no
		}
	}
	return no
}

// ltrim: limiting the length may be repeated, cutting off the head may not.
func ltrim(a Args) Class {
	start, ok1 := a.number(2)
	stop, ok2 := a.number(3)
	return when(ok1 && ok2 && (start == 0 && stop >= -1 || start < 0 && stop == -1), again)
}

// zremrangebyrank: keeping a fixed number of elements may be repeated.
func zremrangebyrank(a Args) Class {
	start, ok1 := a.number(2)
	stop, ok2 := a.number(3)
	return when(ok1 && ok2 && (start == 0 && stop < 0 || start > 0 && stop == -1), again.never())
}

// zadd: ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member ...
// Without CH it returns how many were added; with XX that is always 0.
func zadd(a Args) Class {
	var xx, ordered, ch bool
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "xx":
			xx = true
		case "gt", "lt":
			ordered = true
		case "ch":
			ch = true
		case "nx", "incr":
			return no
		default:
			v := constant
			if xx || ordered {
				v = again
			}
			if ch || ordered && !xx {
				v = v.different(a, i+1, 2)
			}
			return when(i+1 < len(a) && readable(a[:i+1], i), v)
		}
	}
	return no
}

// geoadd: GEOADD key [NX|XX] [CH] longitude latitude member ...
func geoadd(a Args) Class {
	var xx, ch bool
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "xx":
			xx = true
		case "ch":
			ch = true
		case "nx":
			return no
		default:
			v := constant
			if xx {
				v = again
			}
			if ch {
				v = v.different(a, i+2, 3)
			}
			return when(i+2 < len(a) && readable(a[:i+1], i), v)
		}
	}
	return no
}

// xadd: XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [IDMPAUTO p|IDMP p i]
// [MAXLEN|MINID [=|~] n [LIMIT c]] id field value ...
// With an id chosen by the caller, the server refuses a second execution, so one that it accepts
// was the first.
func xadd(a Args) Class {
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "nomkstream", "keepref", "delref", "acked":
		case "maxlen", "minid":
			if a.Is(i+1, "=", "~") {
				i++
			}
			i++
		case "limit":
			i++
		default:
			id, ok := a.Text(i)
			ms, seq, _ := strings.Cut(id, "-")
			return when(ok && digits(ms) && (seq == "" && !strings.Contains(id, "-") || digits(seq)), again.value())
		}
	}
	return no
}

func digits(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}

// xreadgroup: repeatable only if it reads entries that were delivered to this consumer before.
func xreadgroup(a Args) Class {
	for i := 4; i < len(a); i++ {
		switch a.lower(i) {
		case "count", "block":
			i++
		case "noack":
		case "streams":
			n := len(a) - i - 1
			if n < 2 || n%2 != 0 {
				return no
			}
			for j := i + 1 + n/2; j < len(a); j++ {
				if id, ok := a.Text(j); !ok || id == "" || id[0] < '0' || id[0] > '9' {
					return no
				}
			}
			return again
		default:
			return no
		}
	}
	return no
}

// store: dest is written from the keys in the later arguments. If dest may be one of them, the
// second result may differ from the first.
func store(a Args, dest, from int) Class {
	d, ok := a.Text(dest)
	if !ok || !readable(a, from) || len(a) <= from {
		return no
	}
	for i := from; i < len(a); i++ {
		if s, _ := a.Text(i); s == d {
			return no
		}
	}
	return again
}

// sort_: SORT key ... [STORE dest]
func sort_(a Args) Class {
	if !readable(a, 1) {
		return no
	}
	key, _ := a.Text(1)
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "by", "get":
			i++
		case "limit":
			i += 2
		case "store":
			dest, ok := a.Text(i + 1)
			// A pattern of BY or GET can match the destination.
			return when(ok && dest != key && !a.has(2, "by", "get"), again)
		}
	}
	return read
}

// georadius: a read, unless it stores.
func georadius(a Args) Class {
	if !readable(a, 1) {
		return no
	}
	key, _ := a.Text(1)
	v := read
	for i := 2; i < len(a); i++ {
		if a.Is(i, "store", "storedist") {
			dest, ok := a.Text(i + 1)
			if !ok || dest == key {
				return no
			}
			v = again
		}
	}
	return v
}
