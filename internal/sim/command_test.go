//go:build unix

package sim

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// data is what all servers of a scenario store: a failover loses nothing, and
// whoever may execute a command executes it on the same data. Under Network.mu.
type data struct {
	values map[string]string
	runs   map[string]int // executions, by command and token
	lists  map[string]int // lengths
}

func newData() *data {
	return &data{values: map[string]string{}, runs: map[string]int{}, lists: map[string]int{}}
}

// once are the commands whose reply distinguishes the first execution from later ones.
var once = map[string][2]any{
	"del": {1, 0}, "unlink": {1, 0}, "sadd": {1, 0}, "srem": {1, 0}, "zrem": {1, 0}, "hdel": {1, 0}, "lrem": {1, 0},
	"pfadd": {1, 0}, "persist": {1, 0}, "xack": {1, 0},
	"setbit": {0, 1}, "getdel": {[]byte("v"), nil}, "getex": {[]byte("v"), nil}, "hgetex": {[]any{[]byte("v")}, []any{nil}}, "getset": {nil, []byte("v")},
}

func isWrite(name string) bool {
	_, is := once[name]
	switch name {
	case "set", "incr", "append", "lpush", "eval", "blpop":
		return true
	}
	return is
}

func isData(name string) bool { return name == "get" || isWrite(name) }

// keyOf is the key that decides where a command of data belongs.
func keyOf(args []string) string {
	i := 1
	if args[0] == "eval" {
		i = 3
	}
	if i < len(args) {
		return args[i]
	}
	return ""
}

// execute executes one command on the data.
func (d *data) execute(args []string) any {
	name, token := args[0], tokenOf(args)
	d.runs[name+token]++
	n := d.runs[name+token]
	switch name {
	case "get":
		if v, ok := d.values[args[1]]; ok {
			return []byte(v)
		}
		return nil
	case "set":
		if _, ok := d.values[args[1]]; ok && len(args) > 3 && strings.EqualFold(args[3], "nx") {
			return nil
		}
		d.values[args[1]] = args[2][:min(len(args[2]), 20)]
		return "OK"
	case "incr":
		return n
	case "append":
		return n * len(args[2])
	case "lpush":
		d.lists[args[1]]++
		return d.lists[args[1]]
	case "eval": // INCR, and then what its text says
		if _, word, is := strings.Cut(args[1], "error_reply('"); is {
			return errors.New(strings.TrimSuffix(word, "')"))
		}
		return n
	case "blpop":
		return bulk(args[1], fmt.Sprint("element ", n))
	}
	if n == 1 {
		return once[name][0]
	}
	return once[name][1]
}

// refusal is what a server says to what it does not carry out.
type refusal struct {
	text   string
	writes bool // only to these
	until  time.Time
}

var refusals = map[string]refusal{
	"loading":    {text: "LOADING Redis is loading the dataset in memory"},
	"busy":       {text: "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."},
	"masterdown": {text: "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."},
	"readonly":   {text: "READONLY You can't write against a read only replica.", writes: true},
	"tryagain":   {text: "TRYAGAIN Multiple keys request during rehashing of slot", writes: true},
	"noreplicas": {text: "NOREPLICAS Not enough good replicas to write.", writes: true},
}

// scriptSuffix is what a server adds to a refusal of a script.
const scriptSuffix = " script: 1b936e3fe509bcbc9cd0664897bbe8fd0cac101b, on @user_script:1."

// refusedWith is which of the server's refusals an error is, "" for none.
func refusedWith(err error) string {
	var said redis.Error
	if !errors.As(err, &said) || errors.Is(err, redis.Nil) {
		return ""
	}
	word, _, _ := strings.Cut(strings.TrimPrefix(said.Error(), "EXECABORT Transaction discarded because of: "), " ")
	switch word = strings.ToLower(word); word {
	case "moved", "ask", "clusterdown", "unblocked":
		return word
	}
	if _, is := refusals[word]; is {
		return word
	}
	return ""
}

func words(args []any) []string {
	var out []string
	for _, a := range args {
		out = append(out, fmt.Sprint(a))
	}
	return out
}

func tokenOf(args []string) string {
	for _, a := range args {
		if strings.HasPrefix(a, tokenStart) {
			return a
		}
	}
	return ""
}

// callOf is the part of a token that all commands of a call share.
func callOf(token string) string { c, _, _ := strings.Cut(token, "/"); return c }
