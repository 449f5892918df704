package retry_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// twice are repeatable writes: what may be there before, in ways that are divided by
// "|", and the commands.
var twice = []struct{ before, lines string }{
	{"|SET k v|SET k v EX 100|HSET k f v", "SET k x;SET k x EX 100;SET k x KEEPTTL;SET k x XX;SET k x XX EX 100;SET k x EXAT 1;SETEX k 100 x;PSETEX k 100000 x;MSET k x k2 y"},
	{"|SET k v|HSET k f v", "MSETEX 2 k x k2 y EX 100;MSETEX 1 k x XX EX 100;SETRANGE k 2 abc"},
	{"|SET k v|SET k v EX 100", "GETEX k PERSIST;GETEX k EX 100;GETEX k PX 100000;PERSIST k;EXPIRE k 100;EXPIRE k 100 XX;EXPIRE k -1;EXPIREAT k 1;EXPIREAT k 4000000000;PEXPIRE k 100000;PEXPIREAT k 4000000000000"},
	{"|SET k v|SET k v;SET k2 v|HSET k f v", "DEL k;DEL k k2;DEL k k;UNLINK k k2;DELEX k"},
	{"|SET a v|SET a v;SET b w", "COPY a b REPLACE;BITOP AND dest a b;BITOP NOT dest a"},
	{"|SET k v", "RESTORE k 0 $dump REPLACE"},
	{"|RPUSH k 3 1 2|SADD k 3 1 2", "SORT k STORE dest;SORT k DESC LIMIT 0 2 STORE dest"},
	{"|HSET h f 1|HSET h f 1 g 2|HSET h f 1;HEXPIRE h 100 FIELDS 1 f", "HSET h f v;HSET h f v g w;HMSET h f v;HDEL h f;HDEL h f g;HEXPIRE h 100 FIELDS 1 f;HEXPIRE h 100 FIELDS 2 f g;HEXPIRE h 0 FIELDS 1 f;HEXPIRE h 100 XX FIELDS 1 f;HEXPIREAT h 4000000000 FIELDS 1 f;HPEXPIRE h 100000 FIELDS 1 f;HPEXPIREAT h 4000000000000 FIELDS 1 f;HPERSIST h FIELDS 1 f;HPERSIST h FIELDS 2 f g"},
	{"|HSET h f 1|HSET h f 1 g 2", "HGETEX h PERSIST FIELDS 1 f;HGETEX h EX 100 FIELDS 2 f g;HSETEX h EX 100 FIELDS 1 f v;HSETEX h FXX EX 100 FIELDS 1 f v;HSETEX h FXX EXAT 1 FIELDS 1 f v"},
	{"|RPUSH l v w v|RPUSH l x", "LTRIM l 0 1;LTRIM l -2 -1;LREM l 0 v"},
	{"|SADD s m|SADD s m n|SADD s x", "SADD s m;SADD s m n;SADD s m m;SREM s m;SREM s m n;SREM s m m"},
	{"|SADD a 1 2|SADD a 1 2;SADD b 2 3|SADD a 1 2;SADD b 2 3;SET dest x", "SDIFFSTORE dest a b;SINTERSTORE dest a b;SUNIONSTORE dest a b"},
	{"|ZADD z 5 m|ZADD z 1 m|ZADD z 5 m 6 n", "ZADD z 1 m;ZADD z 1 m 2 n;ZADD z XX 1 m;ZADD z GT 7 m;ZADD z LT 3 m;ZADD z CH 1 m;ZADD z CH 1 m 2 n;ZADD z CH 1 m 2 m 3 n;ZADD z GT CH 1 m 2 m;ZADD z XX CH 1 m;ZADD z XX GT 9 m;ZADD z GT CH 9 m;ZREM z m;ZREM z m n;ZREM z m m;ZREMRANGEBYLEX z - +;ZREMRANGEBYSCORE z 0 5;ZREMRANGEBYRANK z 0 -2;ZREMRANGEBYRANK z 1 -1"},
	{"|ZADD a 1 x 2 y|ZADD a 1 x 2 y;ZADD b 3 y", "ZDIFFSTORE dest 2 a b;ZINTERSTORE dest 2 a b;ZUNIONSTORE dest 2 a b;ZRANGESTORE dest a 0 0"},
	{"|GEOADD g 1 2 m|GEOADD g 3 4 m", "GEOADD g 1 2 m;GEOADD g XX 1 2 m;GEOADD g CH 1 2 m;GEOADD g CH 1 2 m 3 4 n;GEOADD g CH 1 2 m 3 4 m 3 4 n"},
	{"|GEOADD g 1 2 m", "GEOSEARCHSTORE dest g FROMLONLAT 1 2 BYRADIUS 100 km;GEORADIUS g 1 2 100 km STORE dest"},
	{"GEOADD g 1 2 m", "GEORADIUSBYMEMBER g m 100 km STORE dest"},
	{"|PFADD p m|PFADD p x;PFADD q y", "PFADD p m;PFADD p;PFMERGE p q"},
	{"|XADD s 1-1 f v|XADD s 1-1 f v;XADD s 5-1 f v", "XADD s 5-1 f v;XADD s MAXLEN 1 5-1 f v;XADD s NOMKSTREAM 5-1 f v;XDEL s 5-1;XDEL s 5-1 1-1;XDELEX s IDS 2 5-1 1-1;XTRIM s MAXLEN 1;XTRIM s MAXLEN ~ 1;XTRIM s MINID 5;XTRIM s MAXLEN 0"},
	{"XADD s 1-1 f v", "XSETID s 9-1"},
	{"XADD s 1-1 f v;XADD s 2-1 f v;XGROUP CREATE s g 0|XADD s 1-1 f v;XADD s 2-1 f v;XGROUP CREATE s g 0;XREADGROUP GROUP g c STREAMS s >", "XACK s g 1-1;XACK s g 1-1 2-1;XACKDEL s g IDS 2 1-1 2-1;XGROUP CREATECONSUMER s g c;XGROUP CREATECONSUMER s g d"},
	{"XADD s 1-1 f v;XGROUP CREATE s g 0;XREADGROUP GROUP g c STREAMS s >", "XREADGROUP GROUP g c STREAMS s 0"},
	{"|VADD v VALUES 2 1 2 e", "VREM v e;VSETATTR v e {}"},
	{"", "SCRIPT LOAD x=1;CONFIG SET lfu-decay-time 1;MEMORY PURGE"},
	{"|FUNCTION FLUSH", "FUNCTION LOAD REPLACE $function"},
	{`|JSON.SET k $ {"a":1,"b":[1]}`, `JSON.SET k $ 1;JSON.SET k $ 1 XX;JSON.SET k $.a 2;JSON.MERGE k $ {"a":2};JSON.CLEAR k $.b;JSON.DEL k $.a;JSON.FORGET k;JSON.MSET k $ 1 k2 $ 2`},
	{"|BF.ADD b m", "BF.ADD b m;BF.MADD b m n;BF.INSERT b ITEMS m n"},
}

// notRun are repeatable writes that a test had better not do, or cannot.
var notRun = []string{"CONFIG REWRITE"}

func TestARepeatableWriteDoneTwiceKeepsWhatItsClassPromises(t *testing.T) {
	ran := map[string]bool{}
	servers := redistest.Servers()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			has := map[string]bool{}
			for _, n := range commandsOf(t, s.Admin()) {
				has[n] = true
			}
			n := 0
			for _, c := range twice {
				for before := range strings.SplitSeq(c.before, "|") {
					for line := range strings.SplitSeq(c.lines, ";") {
						words := strings.Fields(line)
						if name := strings.ToLower(words[0]); !has[name] || name == "memory" && !has["memory|purge"] {
							continue
						}
						ran[words[0]] = true
						n++
						doTwice(t, s.Admin(), before, line)
					}
				}
			}
			t.Logf("%d ways", n)
		})
	}
	var missing []string
	for _, f := range retry.Forms() {
		name := strings.Fields(f.Text)[0]
		module := strings.HasPrefix(name, "JSON.") || strings.HasPrefix(name, "BF.")
		if (f.Safety == retry.IdempotentWrite || f.Safety == retry.IdempotentState) && !ran[name] && !module && !slices.Contains(notRun, f.Text) {
			missing = append(missing, f.Text)
		}
	}
	if len(missing) > 0 && servers["Redis 8.6"] != nil { // has them all
		t.Errorf("never run twice: %s", strings.Join(missing, ", "))
	}
}

// doTwice compares the second reply, and the state, with the promise.
func doTwice(t *testing.T, rdb *redis.Client, before, line string) {
	t.Helper()
	ctx := context.Background()
	rdb.FlushAll(ctx)
	for l := range strings.SplitSeq(before, ";") {
		if l != "" && rdb.Process(ctx, do(l)) != nil && !strings.HasPrefix(l, "HEXPIRE") {
			return // this server has no such command
		}
	}
	var replies [2]string
	var states [2]map[string]string
	var last *redis.Cmd
	for i := range 2 {
		last = do(line).(*redis.Cmd)
		for n, a := range last.Args() {
			switch a {
			case "$dump":
				last.Args()[n] = rdb.Dump(ctx, "k").Val()
			case "$function":
				last.Args()[n] = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
			}
		}
		err := rdb.Process(ctx, last)
		replies[i] = fmt.Sprint(last.Val(), err)
		states[i] = stateOf(t, rdb)
	}
	class := retry.SafetyOf(last)
	what := fmt.Sprintf("%q, then %q twice (%v): %s, then %s", before, line, class, replies[0], replies[1])
	if !reflect.DeepEqual(states[0], states[1]) {
		t.Errorf("%s: the state is another one:\n%v\n%v", what, states[0], states[1])
	}
	switch class {
	case retry.IdempotentWrite:
		counts := slices.Contains([]string{"HSET", "ZADD", "GEOADD"}, strings.Fields(line)[0])
		if replies[0] != replies[1] && !counts {
			t.Errorf("%s: not the same", what)
		}
	case retry.IdempotentState:
		if last.Err() == nil && retry.Proves(last) && replies[0] != replies[1] {
			t.Errorf("%s: that is not the first one's", what)
		}
	default:
		t.Errorf("%s: is not repeatable", what)
	}
}

// stateOf is what is in the server: the value of each key, and about how long it lives.
func stateOf(t *testing.T, rdb *redis.Client) map[string]string {
	t.Helper()
	ctx := context.Background()
	state := map[string]string{}
	for _, k := range rdb.Keys(ctx, "*").Val() {
		ttl := rdb.PTTL(ctx, k).Val()
		if ttl > 0 {
			ttl = ttl.Round(30 * time.Second)
		}
		var value any
		switch typ := rdb.Type(ctx, k).Val(); typ {
		case "string":
			value = rdb.Get(ctx, k).Val()
		case "hash":
			fields := slices.Sorted(maps.Keys(rdb.HGetAll(ctx, k).Val()))
			var lives []time.Duration
			if len(fields) > 0 {
				for _, ms := range rdb.HPTTL(ctx, k, fields...).Val() {
					lives = append(lives, (time.Duration(ms) * time.Millisecond).Round(30*time.Second))
				}
			}
			value = []any{rdb.HGetAll(ctx, k).Val(), lives}
		case "list":
			value = rdb.LRange(ctx, k, 0, -1).Val()
		case "set":
			m := rdb.SMembers(ctx, k).Val()
			slices.Sort(m)
			value = m
		case "zset":
			value = rdb.ZRangeWithScores(ctx, k, 0, -1).Val()
		case "stream":
			groups, _ := rdb.XInfoGroups(ctx, k).Result()
			value = []any{rdb.XRange(ctx, k, "-", "+").Val(), groups, rdb.XInfoStream(ctx, k).Val().LastGeneratedID}
			for _, g := range groups {
				p, _ := rdb.XPending(ctx, k, g.Name).Result()
				value = []any{value, fmt.Sprint(p)}
			}
		default:
			value = []any{typ, rdb.Do(ctx, "json.get", k).Val(), rdb.Do(ctx, "vcard", k).Val()}
		}
		state[k] = fmt.Sprint(ttl, value)
	}
	return state
}
