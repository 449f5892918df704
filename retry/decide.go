package retry

import "strings"

// verdict is a decision about a command as it was called.
type verdict uint8

const (
	no       verdict = iota // Unsafe
	read                    // ReadOnly
	constant                // Idempotent, whatever was there before
	again                   // Idempotent, but its effect depends on what was there
)

func (v verdict) split() (Safety, bool) {
	switch v {
	case read:
		return ReadOnly, false
	case constant:
		return IdempotentWrite, true
	case again:
		return IdempotentWrite, false
	}
	return Unsafe, false
}

// when is v if ok, else no.
func when(ok bool, v verdict) verdict {
	if ok {
		return v
	}
	return no
}

// decide is the hand-written part of the classification: every command that is
// not a plain read by the server's own flags. It returns false for a command
// that is not listed. What is doubtful is no.
func decide(name string, a args) (verdict, bool) {
	switch name {

	// Strings.
	case "mset", "setex", "psetex", "setrange", "setbit":
		return constant, true
	case "set":
		return set(a), true
	case "msetex": // MSETEX numkeys k v ... [NX|XX] [EX s|...|KEEPTTL]
		n, ok := a.number(1)
		return when(ok && n > 0 && n < int64(len(a)) && !a.has(2+2*int(n), "nx"), again), true
	case "getex":
		return again, true
	case "delex": // without a condition it is DEL
		return when(len(a) == 2, constant), true
	case "delifeq":
		return no, true
	case "digest":
		return read, true
	case "bitfield": // SET answers with the old value, which a repetition loses
		return when(!a.has(2, "set", "incrby"), read), true
	case "bitop":
		return bitop(a), true
	case "append", "decr", "decrby", "getdel", "getset", "incr", "incrby", "incrbyfloat", "increx", "msetnx", "setnx":
		return no, true

	// Keys.
	case "del", "unlink":
		return constant, true
	case "expire", "expireat", "pexpire", "pexpireat":
		return when(!a.has(3, "nx", "gt", "lt"), again), true
	case "persist":
		return again, true
	case "copy":
		return when(a.has(3, "replace") && readable(a, 3), again), true
	case "restore":
		return when(a.has(4, "replace") && readable(a, 4), constant), true
	case "sort":
		return sort_(a), true
	case "touch":
		return read, true
	case "migrate", "move", "rename", "renamenx", "restore-asking", "swapdb":
		return no, true

	// Hashes.
	case "hset", "hmset", "hdel":
		return constant, true
	case "hexpire", "hexpireat", "hpexpire", "hpexpireat":
		return when(!a.is(3, "nx", "gt", "lt") && readable(a[:min(4, len(a))], 3), again), true
	case "hpersist", "hgetex":
		return again, true
	case "hsetex": // HSETEX key [FNX|FXX] [EX s|...|KEEPTTL] FIELDS n f v ...
		return hsetex(a), true
	case "hgetdel", "hincrby", "hincrbyfloat", "hsetnx", "himport", "himport|set":
		return no, true

	// Lists: what is counted from an end moves when others push.
	case "ltrim": // a cap may be applied twice, cutting off the head may not
		start, ok1 := a.number(2)
		stop, ok2 := a.number(3)
		return when(ok1 && ok2 && (start == 0 && stop >= -1 || start < 0 && stop == -1), again), true
	case "lrem":
		n, ok := a.number(2)
		return when(ok && n == 0, constant), true
	case "blmove", "blmpop", "blpop", "brpop", "brpoplpush", "linsert", "lmove", "lmpop", "lpop", "lpush", "lpushx",
		"lset", "rpop", "rpoplpush", "rpush", "rpushx":
		return no, true

	// Sets.
	case "sadd", "srem":
		return constant, true
	case "sdiffstore", "sinterstore", "sunionstore":
		return store(a, 1, 2), true
	case "smove", "spop":
		return no, true

	// Sorted sets.
	case "zadd":
		return zadd(a), true
	case "geoadd":
		return geoadd(a), true
	case "zrem", "zremrangebylex", "zremrangebyscore":
		return constant, true
	case "zremrangebyrank": // keeping a number of them may be done twice
		start, ok1 := a.number(2)
		stop, ok2 := a.number(3)
		return when(ok1 && ok2 && (start == 0 && stop < 0 || start > 0 && stop == -1), again), true
	case "zdiffstore", "zinterstore", "zunionstore", "zrangestore", "geosearchstore":
		return store(a, 1, 2), true
	case "georadius", "georadiusbymember":
		return georadius(a), true
	case "bzmpop", "bzpopmax", "bzpopmin", "zincrby", "zmpop", "zpopmax", "zpopmin":
		return no, true

	// HyperLogLogs.
	case "pfadd":
		return constant, true
	case "pfmerge":
		return again, true
	case "pfcount":
		return read, true
	case "pfdebug", "pfselftest":
		return no, true

	// Streams.
	case "xadd":
		return xadd(a), true
	case "xdel", "xdelex":
		return constant, true
	case "xack", "xackdel", "xtrim", "xsetid", "xgroup|createconsumer":
		return again, true
	case "xread": // "$" is another place the second time: what came in between is lost
		return when(!a.has(1, "$"), read), true
	case "xreadgroup":
		return xreadgroup(a), true
	case "xautoclaim", "xclaim", "xcfgset", "xnack", "xgroup|create", "xgroup|delconsumer", "xgroup|destroy", "xgroup|setid":
		return no, true
	case "xgroup|help", "xinfo|help", "object|help":
		return read, true

	// Vector sets.
	case "vrem", "vsetattr":
		return constant, true
	case "vadd":
		return no, true

	// Scripts and functions. A *_RO script cannot write.
	case "eval", "evalsha", "fcall":
		return no, true
	case "eval_ro", "evalsha_ro", "fcall_ro":
		return read, true
	case "script|load":
		return constant, true
	case "function|load":
		return when(a.is(2, "replace"), constant), true
	case "script|exists", "script|help", "script|show", "function|dump", "function|help", "function|list", "function|stats":
		return read, true
	case "script|debug", "script|flush", "script|kill", "function|delete", "function|flush", "function|kill", "function|restore":
		return no, true

	// Looking at the server.
	case "ping", "echo", "time", "info", "role", "lastsave", "lolwut",
		"command", "command|count", "command|docs", "command|getkeys", "command|getkeysandflags", "command|help",
		"command|info", "command|list",
		"commandlog|get", "commandlog|help", "commandlog|len",
		"config|get", "config|help",
		"latency|doctor", "latency|graph", "latency|help", "latency|histogram", "latency|history", "latency|latest",
		"memory|doctor", "memory|help", "memory|malloc-stats", "memory|stats", "memory|usage",
		"module|help", "module|list",
		"pubsub|channels", "pubsub|help", "pubsub|numpat", "pubsub|numsub", "pubsub|shardchannels", "pubsub|shardnumsub",
		"slowlog|get", "slowlog|help", "slowlog|len",
		"acl|cat", "acl|dryrun", "acl|genpass", "acl|getuser", "acl|help", "acl|list", "acl|users", "acl|whoami",
		"cluster|count-failure-reports", "cluster|countkeysinslot", "cluster|getkeysinslot", "cluster|getslotmigrations",
		"cluster|help", "cluster|info", "cluster|keyslot", "cluster|links", "cluster|myid", "cluster|myshardid",
		"cluster|nodes", "cluster|replicas", "cluster|shards", "cluster|slaves", "cluster|slot-stats", "cluster|slots",
		"sentinel|get-master-addr-by-name", "sentinel|masters", "sentinel|master", "sentinel|replicas",
		"sentinel|slaves", "sentinel|sentinels", "sentinel|myid", "sentinel|ckquorum":
		return read, true
	case "acl|log":
		return when(!a.has(2, "reset"), read), true

	// Changing the server. Settings are constants; what throws away, starts or
	// stops something is not repeated: by the second time it may hit others.
	case "config|set", "config|rewrite", "memory|purge":
		return constant, true
	case "acl", "cluster", "config", "function", "latency", "memory", "module", "object", "pubsub", "script", "slowlog",
		"commandlog", "xgroup", "xinfo",
		"acl|deluser", "acl|load", "acl|save", "acl|setuser",
		"bgrewriteaof", "bgsave", "save", "config|resetstat", "commandlog|reset", "slowlog|reset", "latency|reset",
		"debug", "failover", "flushall", "flushdb", "module|load", "module|loadex", "module|unload", "psync", "replconf",
		"replicaof", "shutdown", "slaveof", "sync",
		"cluster|addslots", "cluster|addslotsrange", "cluster|bumpepoch", "cluster|delslots", "cluster|delslotsrange",
		"cluster|failover", "cluster|flushslots", "cluster|forget", "cluster|meet", "cluster|migrateslots",
		"cluster|cancelslotmigrations", "cluster|migration", "cluster|syncslots",
		"cluster|replicate", "cluster|reset", "cluster|saveconfig", "cluster|set-config-epoch", "cluster|setslot":
		return no, true

	// Messages: a second one is delivered, too.
	case "publish", "spublish":
		return no, true
	}
	if isBound(name) {
		return no, true
	}
	return decideModule(name, a)
}

// isBound names commands that belong to one connection: what they do, or what
// they answer, is not the same on another one.
func isBound(name string) bool {
	switch name {
	case "asking", "auth", "client", "discard", "exec", "hello", "monitor", "multi", "psubscribe", "punsubscribe",
		"quit", "readonly", "readwrite", "reset", "select", "ssubscribe", "subscribe", "sunsubscribe", "unsubscribe",
		"unwatch", "wait", "waitaof", "watch":
		return true
	}
	return strings.HasPrefix(name, "client|")
}

// runsScript names commands whose reply can be made up by the caller's own code.
func runsScript(name string) bool {
	switch name {
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro":
		return true
	}
	return false
}

// readable reports whether all arguments from position from on can be read.
func readable(a args, from int) bool {
	for i := from; i < len(a); i++ {
		if _, ok := a.text(i); !ok {
			return false
		}
	}
	return true
}

// set: SET key value [NX|XX|IFEQ v|IFNE v|IFDEQ d|IFDNE d] [GET] [EX s|PX ms|EXAT t|PXAT t|KEEPTTL]
func set(a args) verdict {
	if len(a) < 3 {
		return no
	}
	v := constant
	for i := 3; i < len(a); i++ {
		switch a.lower(i) {
		case "ex", "px", "exat", "pxat":
			i++
		case "xx", "keepttl":
			v = again
		default:
			return no
		}
	}
	return v
}

func hsetex(a args) verdict {
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "ex", "px", "exat", "pxat":
			i++
		case "fxx", "keepttl":
		case "fields":
			return again
		default:
			return no
		}
	}
	return no
}

// zadd: ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member ...
func zadd(a args) verdict {
	v := constant
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "xx", "gt", "lt":
			v = again
		case "ch":
		case "nx", "incr":
			return no
		default:
			return when(i+1 < len(a) && readable(a[:i+1], i), v)
		}
	}
	return no
}

// geoadd: GEOADD key [NX|XX] [CH] longitude latitude member ...
func geoadd(a args) verdict {
	v := constant
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "xx":
			v = again
		case "ch":
		case "nx":
			return no
		default:
			return when(i+2 < len(a) && readable(a[:i+1], i), v)
		}
	}
	return no
}

// xadd: XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [IDMPAUTO p|IDMP p i]
// [MAXLEN|MINID [=|~] n [LIMIT c]] id field value ...
// With an id of the caller's own a second one is refused by the server.
func xadd(a args) verdict {
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "nomkstream", "keepref", "delref", "acked":
		case "maxlen", "minid":
			if a.is(i+1, "=", "~") {
				i++
			}
			i++
		case "limit":
			i++
		default:
			id, ok := a.text(i)
			ms, seq, _ := strings.Cut(id, "-")
			return when(ok && digits(ms) && (seq == "" && !strings.Contains(id, "-") || digits(seq)), again)
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

// xreadgroup: only a look at what was delivered to this consumer before.
func xreadgroup(a args) verdict {
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
				if id, ok := a.text(j); !ok || id == "" || id[0] < '0' || id[0] > '9' {
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

// bitop: BITOP op dest src ...; computed again with its own result as a source
// it could be another one.
func bitop(a args) verdict { return store(a, 2, 3) }

// store: dest is written from what the later arguments name. If dest may be one
// of them, the second result may differ from the first.
func store(a args, dest, from int) verdict {
	d, ok := a.text(dest)
	if !ok || !readable(a, from) || len(a) <= from {
		return no
	}
	for i := from; i < len(a); i++ {
		if s, _ := a.text(i); s == d {
			return no
		}
	}
	return again
}

// sort_: SORT key ... [STORE dest]
func sort_(a args) verdict {
	if !readable(a, 1) {
		return no
	}
	key, _ := a.text(1)
	for i := 2; i < len(a); i++ {
		switch a.lower(i) {
		case "by", "get":
			i++
		case "limit":
			i += 2
		case "store":
			dest, ok := a.text(i + 1)
			// A pattern of BY or GET can name the destination.
			return when(ok && dest != key && !a.has(2, "by", "get"), again)
		}
	}
	return read
}

// georadius: a read, unless it stores.
func georadius(a args) verdict {
	if !readable(a, 1) {
		return no
	}
	key, _ := a.text(1)
	v := read
	for i := 2; i < len(a); i++ {
		if a.is(i, "store", "storedist") {
			dest, ok := a.text(i + 1)
			if !ok || dest == key {
				return no
			}
			v = again
		}
	}
	return v
}
