package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// ClientInfo is one line of CLIENT LIST: a connection as the server sees it.
type ClientInfo struct {
	ID    int64
	Addr  string // the client's end
	LAddr string // the server's end
	Name  string
	Cmd   string // the last command
	Flags string // N normal, P pub/sub, S replica, M master, b blocked, x MULTI, ...
	User  string
	DB    int
	Resp  int // 2 or 3
	Age   time.Duration
	Idle  time.Duration
	Raw   map[string]string // every field
}

// Normal reports whether the server counts it among CLIENT LIST TYPE normal:
// no replication link and no subscriber.
func (c ClientInfo) Normal() bool { return !strings.ContainsAny(c.Flags, "MSP") }

// ParseClientList parses the reply of CLIENT LIST.
func ParseClientList(reply string) ([]ClientInfo, error) {
	var list []ClientInfo
	for line := range strings.Lines(reply) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		raw := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			k, v, ok := strings.Cut(field, "=")
			if !ok {
				return nil, fmt.Errorf("redistest: CLIENT LIST: field %q has no '=' in line %q", field, line)
			}
			raw[k] = v
		}
		c := ClientInfo{
			Addr: raw["addr"], LAddr: raw["laddr"], Name: raw["name"],
			Cmd: raw["cmd"], Flags: raw["flags"], User: raw["user"], Raw: raw,
		}
		num := func(key string) int64 {
			n, _ := strconv.ParseInt(raw[key], 10, 64) // absent on older servers: 0
			return n
		}
		if c.ID = num("id"); c.ID == 0 {
			return nil, fmt.Errorf("redistest: CLIENT LIST: no id in line %q", line)
		}
		c.DB, c.Resp = int(num("db")), int(num("resp"))
		c.Age, c.Idle = time.Duration(num("age"))*time.Second, time.Duration(num("idle"))*time.Second
		list = append(list, c)
	}
	return list, nil
}

// ClientList returns the server's CLIENT LIST, without the connections of Admin.
func (s *Server) ClientList(t testing.TB) []ClientInfo {
	t.Helper()
	return clientList(t, s.Admin())
}

func clientList(t testing.TB, judge *redis.Client) []ClientInfo {
	t.Helper()
	reply, err := judge.ClientList(context.Background()).Result()
	if err != nil {
		t.Fatalf("redistest: CLIENT LIST on %s: %v", judge.Options().Addr, err)
	}
	all, err := ParseClientList(reply)
	if err != nil {
		t.Fatal(err)
	}
	list := all[:0]
	for _, c := range all {
		if c.Name != judgeName {
			list = append(list, c)
		}
	}
	return list
}

// NumClients returns the length of ClientList.
func (s *Server) NumClients(t testing.TB) int {
	t.Helper()
	return len(s.ClientList(t))
}

// KillClients closes every normal client except those of Admin with CLIENT KILL, and
// returns how many there were.
func (s *Server) KillClients(t testing.TB) int {
	t.Helper()
	list := s.ClientList(t)
	pipe := s.Admin().Pipeline()
	var kills []*redis.IntCmd
	for _, c := range list {
		if c.Normal() {
			kills = append(kills, pipe.ClientKillByFilter(context.Background(), "ID", strconv.FormatInt(c.ID, 10)))
		}
	}
	if len(kills) == 0 {
		return 0
	}
	if _, err := pipe.Exec(context.Background()); err != nil {
		t.Fatalf("redistest: CLIENT KILL on %s: %v", s.admin, err)
	}
	var n int
	for _, k := range kills {
		n += int(k.Val())
	}
	return n
}
