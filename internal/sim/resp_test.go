//go:build unix

package sim

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
)

// push and pairs are replies of RESP3 alone; pairs is an array in RESP2.
type (
	push  []any
	pairs []any
)

func parse(r *bufio.Reader) ([]string, error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, syscall.EPROTO
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	args := make([]string, 0, max(n, 0))
	for range n {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args = append(args, string(b[:size]))
	}
	return args, err
}

func encode(w io.Writer, reply any, resp3 bool) {
	list := func(kind string, n int, of []any) {
		fmt.Fprintf(w, "%s%d\r\n", kind, n)
		for _, e := range of {
			encode(w, e, resp3)
		}
	}
	switch v := reply.(type) {
	case nil:
		if resp3 {
			fmt.Fprint(w, "_\r\n")
		} else {
			fmt.Fprint(w, "$-1\r\n")
		}
	case int:
		fmt.Fprintf(w, ":%d\r\n", v)
	case string:
		fmt.Fprintf(w, "+%s\r\n", v)
	case []byte:
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(v), v)
	case error:
		fmt.Fprintf(w, "-%s\r\n", v)
	case []any:
		list("*", len(v), v)
	case pairs:
		if resp3 {
			list("%", len(v)/2, v)
		} else {
			list("*", len(v), v)
		}
	case push:
		if resp3 {
			list(">", len(v), v)
		} else {
			list("*", len(v), v)
		}
	default:
		panic(fmt.Sprintf("no encoding for %T", reply))
	}
}

func bulk(words ...string) (out []any) {
	for _, w := range words {
		out = append(out, []byte(w))
	}
	return out
}
