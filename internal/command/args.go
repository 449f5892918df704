package command

import (
	"strconv"
	"strings"
)

// Args reads a command's arguments, including its name, in the form in which go-redis writes them.
// It never panics, whatever the arguments are.
type Args []any

// Text returns argument i as the server will see it, and false if there is none or if user code
// would have to be called for it (encoding.BinaryMarshaler).
func (a Args) Text(i int) (string, bool) {
	if i < 0 || i >= len(a) {
		return "", false
	}
	switch v := a[i].(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case *string:
		if v == nil {
			return "", true
		}
		return *v, true
	case []byte:
		return string(v), true
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	case int:
		return strconv.Itoa(v), true
	case int8:
		return strconv.FormatInt(int64(v), 10), true
	case int16:
		return strconv.FormatInt(int64(v), 10), true
	case int32:
		return strconv.FormatInt(int64(v), 10), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint:
		return strconv.FormatUint(uint64(v), 10), true
	case uint8:
		return strconv.FormatUint(uint64(v), 10), true
	case uint16:
		return strconv.FormatUint(uint64(v), 10), true
	case uint32:
		return strconv.FormatUint(uint64(v), 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case float32:
		return strconv.FormatFloat(float64(v), 'f', -1, 64), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// lower returns Text in lower case, "" if there is none.
func (a Args) lower(i int) string {
	s, _ := a.Text(i)
	return strings.ToLower(s)
}

// Is reports whether argument i is one of the given words, given in lower case.
func (a Args) Is(i int, words ...string) bool {
	s, ok := a.Text(i)
	if !ok {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}

// has reports whether an argument at or after position from is one of the words, or cannot be read
// and so might be one.
func (a Args) has(from int, words ...string) bool {
	for i := from; i < len(a); i++ {
		if _, ok := a.Text(i); !ok || a.Is(i, words...) {
			return true
		}
	}
	return false
}

// number returns argument i as an integer.
func (a Args) number(i int) (int64, bool) {
	s, ok := a.Text(i)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
