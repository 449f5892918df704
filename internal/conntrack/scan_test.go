package conntrack_test

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func req(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

func reqs(lines ...string) []byte {
	var b []byte
	for _, l := range lines {
		b = append(b, req(strings.Fields(l)...)...)
	}
	return b
}

var scanTable = []struct {
	in   string // commands, separated by semicolons
	want string // what is left: multi, watch, session, subscribe, next, lost
	last string
}{
	{"GET a", "", "get"},
	{"PING", "", "ping"},
	{"MULTI", "multi", "multi"},
	{"multi", "multi", "multi"},
	{"mUlTi; set a b", "multi", "set"},
	{"MULTI; SET a b; EXEC", "", "exec"},
	{"MULTI; DISCARD", "", "discard"},
	{"WATCH a", "watch", "watch"},
	{"WATCH a; UNWATCH", "", "unwatch"},
	{"WATCH a; MULTI; UNWATCH", "multi watch", "unwatch"},
	{"WATCH a; MULTI; EXEC", "", "exec"},
	{"WATCH a; MULTI; DISCARD", "", "discard"},
	{"UNWATCH", "", "unwatch"},
	{"SUBSCRIBE a", "subscribe", "subscribe"},
	{"PSUBSCRIBE a", "subscribe", "psubscribe"},
	{"SSUBSCRIBE a", "subscribe", "ssubscribe"},
	{"SUBSCRIBE a; UNSUBSCRIBE a", "session subscribe", "unsubscribe"},
	{"UNSUBSCRIBE", "session", "unsubscribe"},
	{"PUNSUBSCRIBE a b", "session", "punsubscribe"},
	{"SUNSUBSCRIBE a", "session", "sunsubscribe"},
	{"MONITOR", "subscribe", "monitor"},
	{"SYNC", "subscribe", "sync"},
	{"PSYNC ? -1", "subscribe", "psync"},
	{"SELECT 3", "session", "select"},
	{"SELECT 3; MULTI; EXEC", "session", "exec"},
	{"AUTH a b", "session", "auth"},
	{"HELLO 3", "session", "hello"},
	{"RESET", "session", "reset"},
	{"READONLY", "session", "readonly"},
	{"READWRITE", "session", "readwrite"},
	{"QUIT", "session", "quit"},
	{"REPLCONF x y", "session", "replconf"},
	{"ASKING", "next", "asking"},
	{"ASKING; GET a", "", "get"},
	{"CLIENT CACHING YES", "next", "client"},
	{"CLIENT CACHING YES; GET a", "", "get"},
	{"CLIENT TRACKING ON", "session", "client"},
	{"client tracking off", "session", "client"},
	{"CLIENT REPLY OFF", "session", "client"},
	{"CLIENT SETNAME x", "session", "client"},
	{"CLIENT NO-EVICT ON", "session", "client"},
	{"CLIENT NO-TOUCH ON", "session", "client"},
	{"CLIENT SETINFO LIB-NAME x", "session", "client"},
	{"CLIENT CAPA redirect", "session", "client"},
	{"CLIENT IMPORT-SOURCE ON", "session", "client"},
	{"CLIENT MAINT_NOTIFICATIONS ON", "session", "client"},
	{"CLIENT ID", "", "client"},
	{"CLIENT LIST", "", "client"},
	{"CLIENT KILL ID 3", "", "client"},
	{"CLIENT", "", "client"},
	{"SCRIPT DEBUG YES", "session", "script"},
	{"SCRIPT LOAD x", "", "script"},
	{"SET MULTI MULTI", "", "set"},
	{"SET a *1\r\n$5\r\nMULTI\r\n", "", "set"},
	{"MULTIX", "", "multix"},
	{"MULT", "", "mult"},
	{"SUBSCRIBED a", "", "subscribed"},
	{"GEORADIUSBYMEMBER_RO a", "", "georadiusbymembe"},
	{"ECHO MULTI; GET a", "", "get"},
}

// split cuts a command at its spaces, but keeps the line breaks of values.
func split(l string) []string {
	return strings.FieldsFunc(l, func(r rune) bool { return r == ' ' })
}

func tableRequest(in string) []byte {
	var b []byte
	for _, l := range strings.Split(in, "; ") {
		b = append(b, req(split(l)...)...)
	}
	return b
}

func TestTheScannerKnowsWhatEachCommandLeavesBehind(t *testing.T) {
	for _, x := range scanTable {
		s := conntrack.NewScanner()
		s.Feed(tableRequest(x.in))
		if s.Left() != x.want || s.Last() != x.last {
			t.Errorf("%q leaves %q with last command %q, want %q and %q", x.in, s.Left(), s.Last(), x.want, x.last)
		}
	}
}

func TestTheScannerSeesTheSameHoweverARequestIsCut(t *testing.T) {
	for _, x := range scanTable {
		b := tableRequest(x.in)
		for cut := 0; cut <= len(b); cut++ {
			s := conntrack.NewScanner()
			s.Feed(b[:cut])
			s.Feed(b[cut:])
			if s.Left() != x.want || s.Last() != x.last {
				t.Errorf("%q cut at %d leaves %q with last command %q, want %q and %q", x.in, cut, s.Left(), s.Last(), x.want, x.last)
			}
		}
		s := conntrack.NewScanner()
		for i := range b {
			s.Feed(b[i : i+1])
		}
		if s.Left() != x.want || s.Last() != x.last {
			t.Errorf("%q byte by byte leaves %q with last command %q, want %q and %q", x.in, s.Left(), s.Last(), x.want, x.last)
		}
	}
}

func TestTheScannerSeesWritesHoweverTheyAreCut(t *testing.T) {
	for in, want := range map[string]bool{
		"GET a": false, "PING": false, "GET set; EXISTS incr; MULTI; ZRANGEBYSCORE a 0 1; EXEC": false, "GEORADIUS_RO a 1 1 1 m": false,
		"SET a b": true, "get a; get b; incr c": true, "WATCH a; MULTI; get b; zremrangebyscore a 0 1; EXEC": true,
		"GEORADIUSBYMEMBER a b 1 m STORE c": true, "EVAL x 0": true, "PING a; DEL b": true,
	} {
		b := tableRequest(in)
		for cut := range b {
			s := conntrack.NewScanner()
			s.Feed(b[:cut])
			s.Feed(b[cut:])
			if s.Wrote() != want {
				t.Errorf("%q cut at %d: a write was seen: %v, want %v", in, cut, s.Wrote(), want)
			}
		}
	}
}

func TestTheScannerGetsOverLargeValuesAndLongPipelines(t *testing.T) {
	s := conntrack.NewScanner()
	big := strings.Repeat("*1\r\n$5\r\nMULTI\r\n", 100_000)
	b := req("SET", "k", big)
	for len(b) > 0 {
		n := min(len(b), 4096)
		s.Feed(b[:n])
		b = b[n:]
	}
	if s.Left() != "" {
		t.Errorf("a value that looks like commands leaves %q", s.Left())
	}
	s.Feed(bytes.Repeat(reqs("MULTI", "SET a b", "EXEC"), 1000))
	if s.Left() != "" || s.Last() != "exec" {
		t.Errorf("1000 transactions leave %q, last %q", s.Left(), s.Last())
	}
	s.Feed(req("", "", ""))
	s.Feed(req("GET", ""))
	s.Feed(req(strings.Repeat("x", 5000), "a"))
	if s.Left() != "" {
		t.Errorf("empty and overlong arguments leave %q", s.Left())
	}
	s.Feed(req("MULTI"))
	if s.Left() != "multi" {
		t.Errorf("afterwards MULTI leaves %q", s.Left())
	}
}

func TestTheScannerGivesUpOnWhatItCannotFollow(t *testing.T) {
	for _, in := range []string{"PING\r\n", "*0\r\n", "*-1\r\n", "$3\r\nabc\r\n", "*1\r\n*1\r\n", "*x\r\n", "*\r\n", "*1\n", "*1\rx",
		"*1\r\n$-1\r\n", "*1\r\n:5\r\n", "*99999999999999999999\r\n", "*1\r\n$99999999999999999999\r\n", "*1111111111111111111111111111",
		"*1\r\n\r\n", "\r\n", "\x00"} {
		for _, byByte := range []bool{false, true} {
			s := conntrack.NewScanner()
			if byByte {
				for i := range in {
					s.Feed([]byte(in[i : i+1]))
				}
			} else {
				s.Feed([]byte(in))
			}
			s.Feed(req("GET", "a"))
			if !strings.Contains(s.Left(), "lost") {
				t.Errorf("%q (byte by byte: %v) leaves %q, want lost: such a connection must not be used again", in, byByte, s.Left())
			}
		}
	}
}

// reference is the simplest scanner there can be. ok is false where b is no
// stream of whole requests, maybe with the begin of one more.
func reference(b []byte) (cmds [][]string, ok bool) {
	for len(b) > 0 {
		n, rest, state := refHeader(b, '*')
		if state != 1 || n == 0 {
			return cmds, state == 0
		}
		var args []string
		for range n {
			l, r, state := refHeader(rest, '$')
			if state != 1 {
				return cmds, state == 0
			}
			if l+2 > len(r) {
				return cmds, true
			}
			args, rest = append(args, string(r[:l])), r[l+2:]
		}
		cmds, b = append(cmds, args), rest
	}
	return cmds, true
}

// refHeader: state 1 parsed, 0 incomplete, -1 malformed.
func refHeader(b []byte, kind byte) (n int, rest []byte, state int) {
	if len(b) == 0 {
		return 0, nil, 0
	}
	if b[0] != kind {
		return 0, nil, -1
	}
	i := 1
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i > 1 {
		v, err := strconv.ParseUint(string(b[1:i]), 10, 63)
		if err != nil || v > 1<<40 {
			return 0, nil, -1
		}
		n = int(v)
	}
	switch {
	case i == len(b):
		return 0, nil, 0
	case i == 1 || b[i] != '\r':
		return 0, nil, -1
	case i+1 == len(b):
		return 0, nil, 0
	case b[i+1] != '\n':
		return 0, nil, -1
	}
	return n, b[i+2:], 1
}

// refLeft is what the commands leave behind, by the rules in words.
func refLeft(cmds [][]string) string {
	left := map[string]bool{}
	for _, c := range cmds {
		delete(left, "next")
		sub := ""
		if len(c) > 1 {
			sub = strings.ToUpper(c[1])
			sub = sub[:min(len(sub), 20)] // all that is kept
		}
		switch strings.ToUpper(c[0]) {
		case "MULTI":
			left["multi"] = true
		case "EXEC", "DISCARD":
			delete(left, "multi")
			delete(left, "watch")
		case "WATCH":
			left["watch"] = true
		case "UNWATCH":
			if !left["multi"] {
				delete(left, "watch")
			}
		case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC":
			left["subscribe"] = true
		case "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "SELECT", "AUTH", "HELLO", "RESET", "READONLY", "READWRITE", "QUIT", "REPLCONF":
			left["session"] = true
		case "ASKING":
			left["next"] = true
		case "CLIENT":
			switch sub {
			case "TRACKING", "REPLY", "SETNAME", "SETINFO", "NO-EVICT", "NO-TOUCH", "CAPA", "IMPORT-SOURCE", "MAINT_NOTIFICATIONS":
				left["session"] = true
			case "CACHING":
				left["next"] = true
			}
		case "SCRIPT":
			if sub == "DEBUG" {
				left["session"] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(left)), " ")
}

func FuzzScanner(f *testing.F) {
	for _, x := range scanTable {
		f.Add(tableRequest(x.in), 7)
	}
	f.Add([]byte("*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGE"), 3)
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\nxx\r\n"), 1)
	f.Add([]byte("*1\r\n$20\r\nSUBSCRIBESUBSCRIBESU\r\n"), 5)
	f.Add([]byte("*3\r\n$6\r\nCLIENT\r\n$19\r\nMAINT_NOTIFICATIxxx\r\n$2\r\non\r\n"), 7)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		if piece <= 0 || piece > 64 {
			piece = len(b) + 1
		}
		whole, cut := conntrack.NewScanner(), conntrack.NewScanner()
		whole.Feed(b)
		for rest := b; len(rest) > 0; {
			n := min(piece, len(rest))
			cut.Feed(rest[:n])
			rest = rest[n:]
		}
		if longHeader.Match(b) {
			return // nobody writes that: no panic is enough
		}
		cmds, ok := reference(b)
		if !ok {
			whole.Feed([]byte("\r\n")) // a header that is cut is judged at its end
			cut.Feed([]byte("\r\n"))
			if !strings.Contains(whole.Left(), "lost") || !strings.Contains(cut.Left(), "lost") {
				t.Errorf("%q is malformed, the scanner says %q, and %q in pieces of %d", b, whole.Left(), cut.Left(), piece)
			}
			return
		}
		if whole.Left() != cut.Left() || whole.Last() != cut.Last() {
			t.Errorf("%q in pieces of %d: %q/%q, whole: %q/%q", b, piece, cut.Left(), cut.Last(), whole.Left(), whole.Last())
		}
		if strings.Contains(whole.Left(), "lost") {
			t.Errorf("%q is well formed, the scanner lost it", b)
			return
		}
		// A command that is not whole may already have been begun: it clears "next".
		want, got := refLeft(cmds), whole.Left()
		if want != got && strings.TrimSpace(strings.ReplaceAll(want, "next", "")) != got {
			t.Errorf("%q leaves %q, want %q", b, got, want)
		}
	})
}

// longHeader matches a header whose number has more digits than any length.
var longHeader = regexp.MustCompile(`[*$][0-9]{18,}`)

// Commands that may look as if they left something on the connection and do not.
var harmless = map[string]string{
	// connection
	"ping": "", "echo": "",
	"client|getname": "reads", "client|getredir": "reads", "client|help": "reads", "client|id": "reads", "client|info": "reads",
	"client|list": "reads", "client|trackinginfo": "reads", "client|kill": "acts on others", "client|pause": "acts on the server",
	"client|unpause": "acts on the server", "client|unblock": "acts on others",
	// transactions
	"unwatch": "undoes", "exec": "undoes", "discard": "undoes",
	// pubsub
	"publish": "", "spublish": "",
	"pubsub": "reads", "pubsub|channels": "reads", "pubsub|help": "reads", "pubsub|numpat": "reads",
	"pubsub|numsub": "reads", "pubsub|shardchannels": "reads", "pubsub|shardnumsub": "reads",
	// of other groups, with flags as if
	"client": "its subcommands count",
	// cluster and replication: they act on the server, not on the connection
	"replicaof": "server", "slaveof": "server", "failover": "server", "role": "reads", "shutdown": "server",
	"restore-asking": "carries its own ASKING", "debug": "server", "pfdebug": "server", "wait": "", "waitaof": "",
	"script|kill": "server", "script|flush": "server", "script|load": "server", "script|exists": "reads", "script|help": "reads", "script|show": "reads",
	"cluster|reset": "server",
}

// watched says which commands deserve a look at all.
func watched(name, group string, flags []string) bool {
	switch group {
	case "connection", "transactions", "pubsub":
		return true
	}
	if strings.HasPrefix(name, "script|") || strings.HasPrefix(name, "client|") {
		return true
	}
	for _, n := range []string{"monitor", "sync", "psync", "replconf", "asking", "readonly", "readwrite", "restore-asking", "replicaof", "slaveof", "failover"} {
		if n == name {
			return true
		}
	}
	for _, f := range flags {
		if f == "pubsub" || f == "asking" || f == "no_auth" {
			return true
		}
	}
	return false
}

// A new command of the groups connection, transactions or pubsub has to be
// looked at: it is either marked by the scanner or listed above.
func TestEveryStateChangingCommandOfAServerIsKnown(t *testing.T) {
	servers := map[string]*redistest.Server{"Redis": redistest.Start(t)}
	servers["Valkey"] = redistest.StartValkey(t)
	for name, s := range servers {
		docs, err := s.Admin().Do(bg, "COMMAND", "DOCS").Slice()
		if err != nil {
			t.Fatal(err)
		}
		cmds, err := s.Admin().Do(bg, "COMMAND").Slice()
		if err != nil {
			t.Fatal(err)
		}
		groups := map[string]string{}
		addDocs(groups, docs)
		flags := map[string][]string{}
		addFlags(flags, cmds)
		if len(flags) < 200 || groups["multi"] != "transactions" {
			t.Fatalf("%s: COMMAND is not understood: %d commands, MULTI is of group %q", name, len(flags), groups["multi"])
		}
		looked := 0
		for _, cmd := range slices.Sorted(maps.Keys(flags)) {
			if !watched(cmd, groups[cmd], flags[cmd]) {
				continue
			}
			looked++
			sc := conntrack.NewScanner()
			sc.Feed(req(strings.Split(strings.ToUpper(cmd), "|")...))
			if _, ok := harmless[cmd]; sc.Left() == "" && !ok {
				t.Errorf("%s has a command %q (group %q, flags %v) that the scanner does not mark and nobody has called harmless: what does it leave on a connection?",
					name, cmd, groups[cmd], flags[cmd])
			} else if ok && sc.Left() != "" {
				t.Errorf("%q is marked as %q and listed as harmless", cmd, sc.Left())
			}
		}
		if looked < 40 {
			t.Errorf("%s: only %d commands were looked at", name, looked)
		}
	}
}

// COMMAND DOCS in RESP2: name, array of field, value ...
func addDocs(groups map[string]string, docs []any) {
	for i := 0; i+1 < len(docs); i += 2 {
		name, _ := docs[i].(string)
		fields, _ := docs[i+1].([]any)
		for j := 0; j+1 < len(fields); j += 2 {
			switch fields[j] {
			case "group":
				groups[name], _ = fields[j+1].(string)
			case "subcommands":
				sub, _ := fields[j+1].([]any)
				addDocs(groups, sub)
			}
		}
	}
}

func addFlags(flags map[string][]string, cmds []any) {
	for _, c := range cmds {
		f, _ := c.([]any)
		if len(f) < 3 {
			continue
		}
		name, _ := f[0].(string)
		list, _ := f[2].([]any)
		out := []string{}
		for _, x := range list {
			s, _ := x.(string)
			out = append(out, s)
		}
		flags[name] = out
		if len(f) > 9 {
			sub, _ := f[9].([]any)
			addFlags(flags, sub)
		}
	}
}

// The table above is of words; this is the server's own word for the most
// important of them: after each, the connection is not what it was.
func TestWhatIsMarkedDoesChangeTheConnection(t *testing.T) {
	s := redistest.Start(t)
	for _, x := range []struct {
		cmd   []any
		shown func(redistest.ClientInfo) bool
	}{
		{[]any{"MULTI"}, func(i redistest.ClientInfo) bool { return i.Raw["multi"] != "-1" }},
		{[]any{"WATCH", "k"}, func(i redistest.ClientInfo) bool { return i.Raw["watch"] != "0" }},
		{[]any{"SELECT", 5}, func(i redistest.ClientInfo) bool { return i.DB == 5 }},
		{[]any{"CLIENT", "SETNAME", "marked"}, func(i redistest.ClientInfo) bool { return i.Name == "marked" }},
		{[]any{"CLIENT", "NO-EVICT", "ON"}, func(i redistest.ClientInfo) bool { return strings.Contains(i.Flags, "e") }},
		{[]any{"CLIENT", "NO-TOUCH", "ON"}, func(i redistest.ClientInfo) bool { return strings.Contains(i.Flags, "T") }},
		{[]any{"CLIENT", "TRACKING", "ON"}, func(i redistest.ClientInfo) bool { return strings.Contains(i.Flags, "t") }},
	} {
		r := newRig(t, s.Options(), conntrack.Config{})
		conn, c := r.lease(t)
		if dirty, _ := c.HasSessionState(); dirty {
			t.Fatal("dirty from the handshake")
		}
		if err := conn.Do(bg, x.cmd...).Err(); err != nil {
			t.Fatal(err)
		}
		shown := false
		for _, i := range s.ClientList(t) {
			if i.Addr == c.Info().Local {
				shown = x.shown(i)
			}
		}
		if dirty, _ := c.HasSessionState(); !dirty || !shown {
			t.Errorf("%v: marked %v, shown by the server %v, want both", x.cmd, dirty, shown)
		}
		_ = conn.Close()
		_ = r.Close()
	}
}
