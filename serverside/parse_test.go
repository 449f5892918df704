package serverside_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Lines as servers write them.
const (
	line62 = "id=7 addr=10.1.2.3:51342 laddr=10.0.0.1:6379 fd=9 name=web-1 age=86400 idle=301 flags=N db=2 sub=0 psub=0 multi=-1 qbuf=26 qbuf-free=40928 argv-mem=10 obl=0 oll=0 omem=0 tot-mem=61466 events=r cmd=client user=ci redir=-1"
	line72 = "id=8 addr=10.1.2.4:51343 laddr=10.0.0.1:6379 fd=10 name= age=3 idle=0 flags=bxt db=0 sub=0 psub=0 ssub=0 multi=2 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=41 rbs=1024 rbp=0 obl=0 oll=0 omem=0 tot-mem=1928 events=r cmd=blpop user=default redir=12 resp=3 lib-name=go-redis(,go1.22) lib-ver=9.5.1"
	line8  = "id=4 addr=127.0.0.1:38300 laddr=127.0.0.1:7391 fd=12 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=1 qbuf=26 qbuf-free=20448 argv-mem=10 multi-mem=0 rbs=16384 rbp=16384 obl=0 oll=0 omem=0 tot-mem=37786 events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver= io-thread=3 tot-net-in=99 tot-net-out=77 tot-cmds=5 read-events=6 avg-pipeline-len-sum=7 avg-pipeline-len-cnt=8"
	valkey = "id=2 addr=[::1]:48188 laddr=[::1]:7392 fd=9 name=a=b age=0 idle=0 flags=P capa=r db=0 sub=1 psub=2 ssub=3 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=10 multi-mem=0 rbs=16384 rbp=16384 obl=1 oll=2 omem=3 tot-mem=17050 events=rw cmd=subscribe user=default redir=-1 resp=2 lib-name= lib-ver= tot-net-in=26 tot-net-out=0 tot-cmds=0"
	unix   = "id=3 addr=/run/my redis/r.sock:0 laddr=/run/my redis/r.sock:0 fd=8 name=x age=1 idle=1 flags=U db=0 cmd=NULL user=default"
)

func parseOne(t *testing.T, line string) serverside.Client {
	t.Helper()
	list, err := serverside.Parse(line + "\n")
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

func TestALineOfRedis62IsReadWhole(t *testing.T) {
	c := parseOne(t, line62)
	assert.Equal(t, int64(7), c.ID)
	assert.Equal(t, "10.1.2.3:51342", c.Addr)
	assert.Equal(t, "10.0.0.1:6379", c.LAddr)
	assert.Equal(t, int64(9), c.FD)
	assert.Equal(t, "web-1", c.Name)
	assert.Equal(t, 24*time.Hour, c.Age)
	assert.Equal(t, 301*time.Second, c.Idle)
	assert.Equal(t, int64(2), c.DB)
	assert.Equal(t, int64(-1), c.Multi)
	assert.Equal(t, int64(61466), c.TotMem)
	assert.Equal(t, "client", c.Cmd)
	assert.Equal(t, "ci", c.User)
	assert.Equal(t, int64(-1), c.Redir)
	assert.Equal(t, serverside.TypeNormal, c.Type())
	assert.False(t, c.Has("resp"), "a field of later servers")
	assert.True(t, c.Has("user"))
	assert.Empty(t, c.Unknown)
}

func TestNewerServersGiveMoreFields(t *testing.T) {
	c := parseOne(t, line72)
	assert.Equal(t, int64(3), c.Resp)
	assert.Equal(t, "go-redis(,go1.22)", c.LibName)
	assert.Equal(t, "9.5.1", c.LibVer)
	assert.Equal(t, int64(2), c.Multi)
	assert.Equal(t, int64(41), c.MultiMem)
	assert.Equal(t, int64(1024), c.RBS)
	assert.Equal(t, int64(12), c.Redir)
	assert.True(t, c.Blocked())

	c = parseOne(t, line8)
	assert.Equal(t, int64(1), c.Watch)
	assert.Equal(t, int64(3), c.IOThread)
	assert.Equal(t, int64(99), c.TotNetIn)
	assert.Equal(t, int64(77), c.TotNetOut)
	assert.Equal(t, int64(5), c.TotCmds)
	assert.Equal(t, []int64{6, 7, 8}, []int64{c.ReadEvents, c.AvgPipelineLenSum, c.AvgPipelineLenCnt})
	assert.Empty(t, c.Unknown)

	c = parseOne(t, valkey)
	assert.Equal(t, "r", c.Capa)
	assert.Equal(t, serverside.TypePubSub, c.Type())
	assert.Equal(t, []int64{1, 2, 3}, []int64{c.Sub, c.PSub, c.SSub})
	assert.Equal(t, []int64{1, 2, 3}, []int64{c.OBL, c.OLL, c.OMem})
	ip, ok := c.IP()
	assert.True(t, ok)
	assert.Equal(t, "::1", ip.String())
	assert.False(t, c.Has("io-thread"), "Valkey has none")
}

func TestANameMayHaveAnEqualsSignAndAPathASpace(t *testing.T) {
	assert.Equal(t, "a=b", parseOne(t, valkey).Name)
	c := parseOne(t, unix)
	assert.Equal(t, "/run/my redis/r.sock:0", c.Addr)
	assert.Equal(t, "/run/my redis/r.sock:0", c.LAddr)
	assert.Equal(t, int64(8), c.FD)
	_, ok := c.IP()
	assert.False(t, ok)
}

func TestUnknownFieldsAreKept(t *testing.T) {
	c := parseOne(t, "id=1 addr=a new-one=x=y another= age=5")
	assert.Equal(t, []serverside.Field{{Name: "new-one", Value: "x=y"}, {Name: "another", Value: ""}}, c.Unknown)
	assert.True(t, c.Has("another"))
	assert.Equal(t, 5*time.Second, c.Age)
}

func TestMalformedLinesAreSkippedAndNamed(t *testing.T) {
	for _, line := range []string{
		"addr=1.2.3.4:5 age=3",          // no id
		"id=0 age=3",                    // no client has it
		"id=-4",                         // nor that
		"id=x",                          // not a number
		"id=5 age=3s",                   //
		"id=5 age=+3",                   // no server writes that
		"id=5 age=03",                   //
		"id=5 age=",                     //
		"id=5 db=-1",                    //
		"id=5 age=99999999999999999",    // as a duration it would wrap
		"id=5 tot-mem=1e3",              //
		"id=9223372036854775808",        //
		"id=5 id=6",                     //
		"id=5 age=1 age=2",              //
		"id=5 zz=1 zz=2",                //
		"id=5 name=a b",                 // a name has no space
		"id=5 =x",                       //
		"garbage",                       //
		"id=5 age=3 fd",                 // cut off
		"ERR something else altogether", //
	} {
		list, err := serverside.Parse(line62 + "\n" + line + "\n" + line8 + "\n")
		var m *serverside.MalformedError
		if assert.ErrorAs(t, err, &m, line) {
			assert.ErrorIs(t, err, serverside.ErrMalformed)
			assert.Equal(t, 1, m.Skipped, line)
			assert.Equal(t, line, m.Lines[0].Line)
			assert.NotEmpty(t, m.Lines[0].Why)
			assert.Contains(t, err.Error(), "1 malformed line left out")
		}
		assert.Len(t, list, 2, "the others are read: %s", line)
	}
}

func TestManyMalformedLinesAreCountedAndFewAreKept(t *testing.T) {
	_, err := serverside.Parse(strings.Repeat("x"+strings.Repeat("y", 500)+"\n", 1000))
	var m *serverside.MalformedError
	require.ErrorAs(t, err, &m)
	assert.Equal(t, 1000, m.Skipped)
	assert.Len(t, m.Lines, 8)
	assert.Less(t, len(err.Error()), 1000)
}

func TestAnEmptyReplyIsNobody(t *testing.T) {
	for _, reply := range []string{"", "\n", "\r\n\r\n", "  \n"} {
		list, err := serverside.Parse(reply)
		assert.NoError(t, err)
		assert.Empty(t, list)
	}
}

func TestJSONHasWhatTheServerGaveAndNoMore(t *testing.T) {
	c := parseOne(t, "id=7 age=90 name=a=b new=x")
	c.Node = "n:1"
	b, err := json.Marshal(c)
	require.NoError(t, err)
	assert.JSONEq(t, `{"node":"n:1","id":7,"age":90,"name":"a=b","new":"x"}`, string(b))
}

func FuzzParse(f *testing.F) {
	for _, l := range []string{line62, line72, line8, valkey, unix, "id=5 age=", "id=1 a=b=c  x=\r", "id=1 addr= =", "addr=/a b=c id=2"} {
		f.Add(l + "\n")
		f.Add(line62 + "\n" + l)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		list, err := serverside.Parse(reply)
		lines, skipped := 0, 0
		for l := range strings.Lines(reply) {
			if strings.TrimSpace(strings.TrimRight(l, "\r\n")) != "" {
				lines++
			}
		}
		var m *serverside.MalformedError
		if errors.As(err, &m) {
			skipped = m.Skipped
		} else if err != nil {
			t.Fatalf("another error: %v", err)
		}
		if len(list)+skipped != lines {
			t.Fatalf("%d clients and %d gaps of %d lines", len(list), skipped, lines)
		}
		for _, c := range list {
			// What is said of a client stands in the reply, letter by letter.
			for field, n := range map[string]int64{
				"id": c.ID, "age": int64(c.Age / time.Second), "idle": int64(c.Idle / time.Second),
				"db": c.DB, "tot-mem": c.TotMem, "multi": c.Multi, "tot-cmds": c.TotCmds,
			} {
				if want := field + "=" + strconv.FormatInt(n, 10); c.Has(field) && !strings.Contains(reply, want) {
					t.Fatalf("%s is not in %q", want, reply)
				}
				if !c.Has(field) && n != 0 {
					t.Fatalf("%s=%d comes from nowhere", field, n)
				}
			}
			for field, v := range map[string]string{"name": c.Name, "user": c.User, "addr": c.Addr, "flags": c.Flags} {
				if c.Has(field) && !strings.Contains(reply, field+"="+v) {
					t.Fatalf("%s=%s is not in %q", field, v, reply)
				}
			}
			if c.ID <= 0 {
				t.Fatalf("id %d", c.ID)
			}
		}
	})
}
