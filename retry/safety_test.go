package retry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// do makes a command of words, as a caller of Do would write it.
func do(line string) redis.Cmder {
	words := strings.Fields(line)
	a := make([]any, len(words))
	for i, w := range words {
		a[i] = w
	}
	return redis.NewCmd(context.Background(), a...)
}

func TestEachFormOfACommandHasItsClass(t *testing.T) {
	for class, lines := range map[retry.Safety]string{
		retry.ReadOnly: `
			GET k
			get k
			MGET a b
			HGETALL h
			ZRANGE z 0 -1
			SCAN 0 MATCH a*
			XREAD BLOCK 0 STREAMS s 5-1
			XREAD COUNT 2 STREAMS s t 0 +
			SORT k BY nosort GET #
			SORT_RO k
			GEORADIUS g 1 2 3 km WITHDIST
			BITFIELD k GET u8 0
			EVAL_RO x 0
			EVALSHA_RO x 1 k
			FCALL_RO f 0
			PING
			INFO
			CONFIG GET maxclients
			config get maxclients
			CLUSTER NODES
			MEMORY USAGE k
			OBJECT ENCODING k
			SCRIPT EXISTS x
			ACL LOG
			ACL LOG 10
			XINFO STREAM s
			TTL k
			DUMP k
			TOUCH k
			GETEX k
			HGETEX h FIELDS 1 f
			LOLWUT
			VSIM v ELE a
			JSON.GET k $
			FT.SEARCH i q
			FT.AGGREGATE i q
			TS.RANGE t - +`,
		retry.IdempotentWrite: `
			SET k v
			set k v EX 10
			SET k v KEEPTTL
			SET k v EXAT 1900000000
			SET k NX
			SETEX k 10 v
			MSET a 1 b 2
			MSETEX 1 k v EX 10
			SETRANGE k 5 v
			HSET h f v
			HMSET h f v
			GETEX k PERSIST
			HGETEX h PERSIST FIELDS 1 f
			ZADD z XX GT 1 m
			SUNIONSTORE d a b
			ZADD z 1 m
			ZADD z XX 1 m
			ZADD z 1 incr
			ZUNIONSTORE d 2 a b
			ZRANGESTORE d s 0 5
			GEOADD g 1 2 m
			GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km
			GEORADIUS g 1 2 3 km STORE d
			SORT k STORE d
			LTRIM l 0 99
			LTRIM l -100 -1
			RESTORE k 0 x REPLACE
			BITOP AND d a b
			PFMERGE p q
			XREADGROUP GROUP g c STREAMS s 0
			XREADGROUP GROUP g c COUNT 5 STREAMS s t 0 5-1
			SCRIPT LOAD x
			FUNCTION LOAD REPLACE x
			CONFIG SET a b
			JSON.SET k $ 1`,
		retry.IdempotentState: `
			SET k v PX 10 XX
			DELEX k
			DEL k
			UNLINK a b
			EXPIRE k 10
			EXPIRE k 10 XX
			PEXPIREAT k 1900000000000
			PERSIST k
			HDEL h f
			HEXPIRE h 10 FIELDS 1 f
			HEXPIRE h 10 FIELDS 1 nx
			HSETEX h FXX EX 10 FIELDS 1 f v
			SADD s m
			SREM s m
			ZADD z CH 1 m
			ZADD z GT 1 m
			ZREM z m
			ZREMRANGEBYSCORE z 0 5
			ZREMRANGEBYRANK z 0 -101
			LREM l 0 v
			COPY a b REPLACE
			PFADD p m
			XADD s 5-1 f v
			XADD s 5 f v
			XADD s MAXLEN ~ 100 LIMIT 10 5-1 f v
			XADD s NOMKSTREAM 5-1 f v
			XDEL s 5-1
			XACK s g 5-1
			XTRIM s MAXLEN 100
			VREM v e
			JSON.SET k $.a 1 XX
			JSON.DEL k
			BF.ADD b m
			HPERSIST h FIELDS 1 f
			GETEX k EX 60
			GETEX k PX 60000
			HGETEX h EX 60 FIELDS 1 f
			MSETEX 1 k v XX
			GEOADD g CH 1 2 m
			ZADD z XX CH 1 m
			XTRIM s MAXLEN ~ 100
			XDELEX s IDS 1 5-1
			XACKDEL s g IDS 1 5-1
			XGROUP CREATECONSUMER s g c
			VSETATTR v e x
			JSON.SET k $.a 1
			JSON.MERGE k $.a 1
			JSON.CLEAR k $.a
			BF.MADD b m n
			BF.INSERT b ITEMS m`,
		retry.Unsafe: `
			SETBIT k 1 1
			GETEX k EX 59
			GETEX k PX 59999
			GETEX k EXAT 1900000000
			GETEX k EX
			HGETEX h EX 10 FIELDS 1 f
			HGETEX h PXAT 1900000000000 FIELDS 1 f
			SET k v NX
			SET k v EX 10 NX
			SET k v GET
			SET k v XX GET
			SET k v IFEQ x
			SET k v whatever
			SET k
			SETNX k v
			MSETNX a 1
			MSETEX 1 k v NX
			DELEX k IFEQ v
			GETSET k v
			GETDEL k
			APPEND k v
			INCR k
			DECRBY k 2
			INCRBYFLOAT k 1.5
			EXPIRE k 10 NX
			EXPIRE k 10 GT
			PEXPIRE k 10 lt
			HEXPIRE h 10 GT FIELDS 1 f
			HSETNX h f v
			HSETEX h FNX FIELDS 1 f v
			HINCRBY h f 1
			HGETDEL h FIELDS 1 f
			ZADD z NX 1 m
			ZADD z INCR 1 m
			ZADD z XX INCR 1 m
			ZADD z
			ZINCRBY z 1 m
			ZPOPMIN z
			ZREMRANGEBYRANK z 0 5
			ZREMRANGEBYRANK z 1 -2
			ZUNIONSTORE d 2 a d
			GEOADD g NX 1 2 m
			GEORADIUS g 1 2 3 km STORE g
			SORT k STORE k
			SORT k BY w_* STORE d
			LTRIM l 1 -1
			LTRIM l 0 -2
			LREM l 1 v
			LSET l 0 v
			LPUSH l v
			LMOVE a b LEFT RIGHT
			BLPOP l 0
			RPOPLPUSH a b
			SMOVE a b m
			SPOP s
			COPY a b
			RESTORE k 0 x
			RENAME a b
			MOVE k 1
			BITOP XOR d a d
			BITFIELD k SET u8 0 1
			BITFIELD k INCRBY u8 0 1
			XADD s * f v
			XADD s 5-* f v
			XADD s MAXLEN 100 * f v
			XADD s IDMP p i * f v
			XREAD BLOCK 0 STREAMS s $
			XREADGROUP GROUP g c STREAMS s >
			XREADGROUP GROUP g c STREAMS s t 0 >
			XCLAIM s g c 0 5-1
			XAUTOCLAIM s g c 0 0
			XGROUP CREATE s g $
			XGROUP DELCONSUMER s g c
			EVAL x 0
			EVALSHA x 0
			FCALL f 0
			FUNCTION LOAD x
			PUBLISH c m
			SPUBLISH c m
			MULTI
			EXEC
			WATCH k
			SELECT 1
			CLIENT LIST
			CLIENT KILL ID 5
			CLIENT WHATEVER
			HELLO 3
			AUTH p
			SUBSCRIBE c
			MONITOR
			RESET
			WAIT 1 0
			FLUSHALL
			SHUTDOWN
			DEBUG SLEEP 1
			FAILOVER
			REPLICAOF h p
			CONFIG RESETSTAT
			CONFIG WHATEVER
			ACL SETUSER u
			ACL LOG RESET
			CLUSTER SETSLOT 1 NODE x
			CLUSTER WHATEVER
			JSON.NUMINCRBY k $ 1
			JSON.DEL k $.a[0]
			JSON.SET k $ 1 NX
			FT.AGGREGATE i q WITHCURSOR
			FT.CURSOR READ i 1
			CF.ADD c m
			SOMETHING NEW`,
	} {
		for line := range strings.Lines(lines) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			if got := retry.SafetyOf(do(line)); got != class {
				t.Errorf("%s is %v, want %v", line, got, class)
			}
		}
	}
}

// marshaler could turn out to be anything, an option too.
type marshaler struct{}

func (marshaler) MarshalBinary() ([]byte, error) { return []byte("NX"), nil }

func TestArgumentsOfAnyTypeAreReadAsTheServerWill(t *testing.T) {
	ctx := context.Background()
	get, nx := "get", "nx"
	for _, c := range []struct {
		args []any
		want retry.Safety
	}{
		{[]any{[]byte("GET"), "k"}, retry.ReadOnly},
		{[]any{&get, "k"}, retry.ReadOnly},
		{[]any{"set", "k", 5, "ex", 10 * time.Second}, retry.IdempotentWrite},
		{[]any{"set", "k", marshaler{}}, retry.IdempotentWrite},
		{[]any{"set", "k", "v", []byte("nx")}, retry.Unsafe},
		{[]any{"set", "k", "v", &nx}, retry.Unsafe},
		{[]any{"set", "k", "v", marshaler{}}, retry.Unsafe},
		{[]any{"expire", "k", 10, marshaler{}}, retry.Unsafe},
		{[]any{"zadd", "z", marshaler{}, "m"}, retry.Unsafe},
		{[]any{"zadd", "z", 1.5, "m"}, retry.IdempotentWrite},
		{[]any{"ltrim", "l", 0, int64(9)}, retry.IdempotentWrite},
		{[]any{"ltrim", "l", 1, -1}, retry.Unsafe},
		{[]any{"lrem", "l", uint8(0), "v"}, retry.IdempotentState},
		{[]any{"xadd", "s", []byte("5-1"), "f", "v"}, retry.IdempotentState},
		{[]any{"xadd", "s", marshaler{}, "f", "v"}, retry.Unsafe},
		{[]any{nil}, retry.Unsafe},
		{[]any{marshaler{}}, retry.Unsafe},
		{[]any{(*string)(nil), nil}, retry.Unsafe},
		{nil, retry.Unsafe},
	} {
		if got := retry.SafetyOf(redis.NewCmd(ctx, c.args...)); got != c.want {
			t.Errorf("%v is %v, want %v", c.args, got, c.want)
		}
	}
}

func TestTheCommandsThatGoRedisBuildsAreClassified(t *testing.T) {
	ctx := context.Background()
	var got []redis.Cmder
	rdb := redis.NewClient(&redis.Options{})
	defer rdb.Close()
	p := rdb.Pipeline()
	want := []retry.Safety{}
	add := func(s retry.Safety, cmd redis.Cmder) { want, got = append(want, s), append(got, cmd) }
	add(retry.IdempotentWrite, p.Set(ctx, "k", "v", time.Minute))
	add(retry.IdempotentWrite, p.Set(ctx, "k", "v", redis.KeepTTL))
	add(retry.Unsafe, p.SetNX(ctx, "k", "v", time.Minute))
	add(retry.IdempotentState, p.SetXX(ctx, "k", "v", time.Minute))
	add(retry.Unsafe, p.SetArgs(ctx, "k", "v", redis.SetArgs{Get: true}))
	add(retry.IdempotentState, p.Expire(ctx, "k", time.Minute))
	add(retry.Unsafe, p.ExpireNX(ctx, "k", time.Minute))
	add(retry.IdempotentWrite, p.ZAdd(ctx, "z", redis.Z{Score: 1, Member: "m"}))
	add(retry.Unsafe, p.ZAddNX(ctx, "z", redis.Z{Score: 1, Member: "m"}))
	add(retry.Unsafe, p.ZAddArgsIncr(ctx, "z", redis.ZAddArgs{Members: []redis.Z{{Score: 1, Member: "m"}}}))
	add(retry.Unsafe, p.XAdd(ctx, &redis.XAddArgs{Stream: "s", Values: []string{"f", "v"}}))
	add(retry.IdempotentState, p.XAdd(ctx, &redis.XAddArgs{Stream: "s", ID: "5-1", MaxLen: 9, Approx: true, Values: []string{"f", "v"}}))
	add(retry.Unsafe, p.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"s", ">"}}))
	add(retry.IdempotentWrite, p.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"s", "0"}, Block: -1}))
	add(retry.ReadOnly, p.XRead(ctx, &redis.XReadArgs{Streams: []string{"s", "5"}, Block: time.Second}))
	add(retry.IdempotentWrite, p.HSet(ctx, "h", "f", 1))
	add(retry.ReadOnly, p.ConfigGet(ctx, "*"))
	add(retry.IdempotentState, p.Copy(ctx, "a", "b", 0, true))
	add(retry.Unsafe, p.Copy(ctx, "a", "b", 0, false))
	add(retry.ReadOnly, p.GeoRadius(ctx, "g", 1, 2, &redis.GeoRadiusQuery{Radius: 1}))
	add(retry.Unsafe, p.BLPop(ctx, time.Second, "l"))
	for i, cmd := range got {
		if s := retry.SafetyOf(cmd); s != want[i] {
			t.Errorf("%v is %v, want %v", cmd.Args(), s, want[i])
		}
	}
}

// A server's commands, subcommands included.
func commandsOf(t *testing.T, rdb *redis.Client) []string {
	reply, err := rdb.Do(context.Background(), "COMMAND").Slice()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range reply {
		e := c.([]any)
		names = append(names, strings.ToLower(e[0].(string)))
		if len(e) > 9 {
			for _, s := range e[9].([]any) {
				names = append(names, strings.ToLower(s.([]any)[0].(string)))
			}
		}
	}
	return names
}

func TestEveryCommandOfALiveServerHasAClass(t *testing.T) {
	for name, start := range redistest.Servers() {
		t.Run(name, func(t *testing.T) {
			opt := start(t).Options()
			opt.Protocol = 2
			rdb := redis.NewClient(opt)
			defer rdb.Close()
			names := commandsOf(t, rdb)
			if len(names) < 250 {
				t.Fatalf("only %d commands", len(names))
			}
			var missing []string
			for _, n := range names {
				if !retry.Known(n) {
					missing = append(missing, n)
				}
			}
			slices.Sort(missing)
			if len(missing) > 0 {
				t.Errorf("%d commands have no class: %s\nrun go generate, and decide about each in internal/command/classes.go", len(missing), strings.Join(missing, " "))
			}
			t.Logf("%d commands", len(names))
		})
	}
}

func TestALaterWriteToWhatAReadSawForbidsToRepeatThePair(t *testing.T) {
	for _, c := range []struct {
		lines string
		want  bool
	}{
		{"GET a;SET b 1", true},
		{"SET a 1;GET a", true},
		{"SET a 1;SET a 2", true},
		{"HSET h f v;EXPIRE h 60", true},
		{"EXPIRE a 60;EXPIRE b 60", true},
		{"PING;SET a 1", true},
		{"GET a;SET a 1", false},
		{"LRANGE l 0 -1;DEL l", false},
		{"HGETALL h;DEL x y h", false},
		{"EXPIRE h 60;HSET h f v", false},
		{"COPY a b REPLACE;SET a 1", false},
		{"SUNIONSTORE d a b;SADD b m", false},
		{"MGET a b c;MSET x 1 c 2", false},
		{"MSET a c;MGET c", true},
		{"MGET a c;MSET a1 c", true}, // c is a value
		{"KEYS *;DEL a", false},
		{"DBSIZE;SET a 1", false},
		{"ZADD z XX 5 m;ZADD z GT 3 m", false},
		{"XREAD STREAMS s 0;XDEL s 5-1", false},
	} {
		var cmds []redis.Cmder
		var at []int
		for line := range strings.SplitSeq(c.lines, ";") {
			at = append(at, len(cmds))
			cmds = append(cmds, do(line))
		}
		if got := retry.Repeatable(cmds, at); got != c.want {
			t.Errorf("%s: %v, want %v", c.lines, got, c.want)
		}
	}
}

func FuzzSafetyOfNeverPanicsAndTrustsNothingItCannotRead(f *testing.F) {
	for _, s := range []string{"SET k v NX", "ZADD z GT CH 1 m", "XADD s MAXLEN ~ 5 5-1 f v", "CONFIG", "HEXPIRE h", "SORT k STORE", "",
		"XREADGROUP GROUP g c STREAMS s", "BITOP NOT d", "MSETEX 99999999999 k", "JSON.MSET a", "FCALL_RO"} {
		f.Add(s, byte(0))
	}
	f.Fuzz(func(t *testing.T, line string, kinds byte) {
		words := strings.Split(line, " ")
		a := make([]any, len(words))
		for i, w := range words {
			switch (int(kinds) + i) % 4 {
			case 1:
				a[i] = []byte(w)
			case 2:
				a[i] = &w
			default:
				a[i] = w
			}
		}
		cmd := redis.NewCmd(context.Background(), a...)
		s := retry.SafetyOf(cmd)
		upper := redis.NewCmd(context.Background(), append([]any{strings.ToUpper(words[0])}, a[1:]...)...)
		if isASCII(words[0]) && retry.SafetyOf(upper) != s {
			t.Errorf("%q depends on the case of its name", line)
		}
		// What cannot be read may be an option: replacing any argument after the
		// first two of a safe conditional command must not make it safer.
		for i := 3; i < len(a); i++ {
			b := slices.Clone(a)
			b[i] = marshaler{}
			if got := retry.SafetyOf(redis.NewCmd(context.Background(), b...)); got < s && got == retry.ReadOnly {
				t.Errorf("%q with argument %d unreadable is %v, before %v", line, i, got, s)
			}
		}
		retry.Repeatable([]redis.Cmder{cmd, upper, cmd}, []int{0, 1, 2})
	})
}

func isASCII(s string) bool {
	for _, r := range s {
		if r > 126 {
			return false
		}
	}
	return true
}

func ExampleSafetyOf() {
	ctx := context.Background()
	fmt.Println(retry.SafetyOf(redis.NewCmd(ctx, "SET", "k", "v")))
	fmt.Println(retry.SafetyOf(redis.NewCmd(ctx, "SET", "k", "v", "NX")))
	fmt.Println(retry.SafetyOf(redis.NewCmd(ctx, "GET", "k")))
	// Output:
	// idempotent
	// unsafe
	// read-only
}
