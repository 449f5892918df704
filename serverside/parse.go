package serverside

import (
	"strconv"
	"strings"
	"time"
)

// column says where a field of CLIENT LIST is stored. One of str, num and sec is set.
type column struct {
	name  string
	str   func(*Client) *string
	num   func(*Client) *int64
	sec   func(*Client) *time.Duration
	below bool // negative values are valid
}

// columns are the fields of Redis 6.2 to 8 and Valkey 8. At most 64.
var columns = []column{
	{name: "id", num: func(c *Client) *int64 { return &c.ID }},
	{name: "addr", str: func(c *Client) *string { return &c.Addr }},
	{name: "laddr", str: func(c *Client) *string { return &c.LAddr }},
	{name: "fd", num: func(c *Client) *int64 { return &c.FD }, below: true},
	{name: "name", str: func(c *Client) *string { return &c.Name }},
	// Negative after the server's clock was set back.
	{name: "age", sec: func(c *Client) *time.Duration { return &c.Age }, below: true},
	{name: "idle", sec: func(c *Client) *time.Duration { return &c.Idle }, below: true},
	{name: "flags", str: func(c *Client) *string { return &c.Flags }},
	{name: "capa", str: func(c *Client) *string { return &c.Capa }},
	{name: "db", num: func(c *Client) *int64 { return &c.DB }},
	{name: "sub", num: func(c *Client) *int64 { return &c.Sub }},
	{name: "psub", num: func(c *Client) *int64 { return &c.PSub }},
	{name: "ssub", num: func(c *Client) *int64 { return &c.SSub }},
	{name: "multi", num: func(c *Client) *int64 { return &c.Multi }, below: true},
	{name: "watch", num: func(c *Client) *int64 { return &c.Watch }},
	{name: "qbuf", num: func(c *Client) *int64 { return &c.QBuf }},
	{name: "qbuf-free", num: func(c *Client) *int64 { return &c.QBufFree }},
	{name: "argv-mem", num: func(c *Client) *int64 { return &c.ArgvMem }},
	{name: "multi-mem", num: func(c *Client) *int64 { return &c.MultiMem }},
	{name: "tot-mem", num: func(c *Client) *int64 { return &c.TotMem }},
	{name: "rbs", num: func(c *Client) *int64 { return &c.RBS }},
	{name: "rbp", num: func(c *Client) *int64 { return &c.RBP }},
	{name: "obl", num: func(c *Client) *int64 { return &c.OBL }},
	{name: "oll", num: func(c *Client) *int64 { return &c.OLL }},
	{name: "omem", num: func(c *Client) *int64 { return &c.OMem }},
	{name: "events", str: func(c *Client) *string { return &c.Events }},
	{name: "cmd", str: func(c *Client) *string { return &c.Cmd }},
	{name: "user", str: func(c *Client) *string { return &c.User }},
	{name: "redir", num: func(c *Client) *int64 { return &c.Redir }, below: true},
	{name: "resp", num: func(c *Client) *int64 { return &c.Resp }},
	{name: "lib-name", str: func(c *Client) *string { return &c.LibName }},
	{name: "lib-ver", str: func(c *Client) *string { return &c.LibVer }},
	{name: "tot-net-in", num: func(c *Client) *int64 { return &c.TotNetIn }},
	{name: "tot-net-out", num: func(c *Client) *int64 { return &c.TotNetOut }},
	{name: "tot-cmds", num: func(c *Client) *int64 { return &c.TotCmds }},
	{name: "io-thread", num: func(c *Client) *int64 { return &c.IOThread }, below: true},
	{name: "read-events", num: func(c *Client) *int64 { return &c.ReadEvents }},
	{name: "avg-pipeline-len-sum", num: func(c *Client) *int64 { return &c.AvgPipelineLenSum }},
	{name: "avg-pipeline-len-cnt", num: func(c *Client) *int64 { return &c.AvgPipelineLenCnt }},
}

var columnOf = func() map[string]int {
	m := make(map[string]int, len(columns))
	for i, c := range columns {
		m[c.name] = i
	}
	return m
}()

// Parse parses a reply of CLIENT LIST or CLIENT INFO. Lines that it cannot parse are left out and
// reported in a *[MalformedError]; the clients returned with it are correct. A line is parsed
// completely or not at all: a missing id, an invalid number or a duplicate field makes it
// malformed. Fields may be missing, in any order, or unknown.
func Parse(reply string) ([]Client, error) {
	var list []Client
	var bad MalformedError
	for line := range strings.Lines(reply) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		c, why := parseLine(line)
		if why != "" {
			bad.add("", line, why)
			continue
		}
		list = append(list, c)
	}
	if bad.Skipped > 0 {
		return list, &bad
	}
	return list, nil
}

// parseLine returns why the line is malformed, "" if it is not.
func parseLine(line string) (c Client, why string) {
	for len(line) > 0 {
		if line[0] == ' ' {
			line = line[1:]
			continue
		}
		name, rest, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsRune(name, ' ') {
			return c, "a field without ="
		}
		// A value may have an = (CLIENT SETNAME a=b), and only the path of a Unix
		// socket may have a space: it goes on up to the next word with an =.
		end := valueEnd(rest, name == "addr" || name == "laddr")
		value := rest[:end]
		line = rest[end:]
		if why := c.set(name, value); why != "" {
			return c, why
		}
	}
	if c.has&1 == 0 || c.ID == 0 { // the id is columns[0]
		return c, "no id"
	}
	return c, ""
}

func valueEnd(rest string, spaces bool) int {
	end := 0
	for {
		i := strings.IndexByte(rest[end:], ' ')
		if i < 0 {
			return len(rest)
		}
		end += i
		if !spaces {
			return end
		}
		word, _, _ := strings.Cut(rest[end+1:], " ")
		if word == "" || strings.ContainsRune(word, '=') {
			return end
		}
		end++
	}
}

func (c *Client) set(name, value string) (why string) {
	i, known := columnOf[name]
	if !known {
		for _, f := range c.Unknown {
			if f.Name == name {
				return "the field " + name + " comes twice"
			}
		}
		c.Unknown = append(c.Unknown, Field{name, value})
		return ""
	}
	if c.has&(1<<i) != 0 {
		return "the field " + name + " comes twice"
	}
	c.has |= 1 << i
	col := &columns[i]
	if col.str != nil {
		*col.str(c) = value
		return ""
	}
	n, ok := number(value)
	if !ok || n < 0 && !col.below {
		return name + " is no number that it can have"
	}
	if col.num != nil {
		*col.num(c) = n
		return ""
	}
	d := time.Duration(n) * time.Second
	if d/time.Second != time.Duration(n) {
		return name + " is no number that it can have"
	}
	*col.sec(c) = d
	return ""
}

// number is ParseInt restricted to what a server writes: no plus sign, no leading zeros.
func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, false
	}
	var buf [20]byte
	return n, string(strconv.AppendInt(buf[:0], n, 10)) == s
}
