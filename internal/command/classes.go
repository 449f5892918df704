package command

// decision is the class of commands that are not plain reads according to the server's own flags.
// In doubt it is no.
type decision struct {
	names string
	is    Class
	rule  func(a Args) Class // instead of is: the class depends on the arguments
	forms string             // with rule: examples for docs/COMMANDS.md, one a line
	why   string             // for docs/COMMANDS.md
}

const (
	whyAgain    = "does it again"
	whyGives    = "takes what it returns"
	whyDecides  = "its reply decides something, or says what was there"
	whyPosition = "counts from an end, which moves when others write"
	whyBound    = "belongs to its connection"
	whyAdmin    = "administration: by the second time it may hit others"
	whyExists   = "the second one is refused: it exists already"
	whyCount    = "the count of new ones, rarely read, is 0 the second time"
	whyDepends  = "in this form its reply decides something, or its effect depends on what is there"
)

var decisions = []decision{

	// Strings.
	{names: "mset setex psetex", is: constant},
	{names: "setrange", is: again},
	{names: "set", rule: set, forms: `SET k v EX 10
		SET k v KEEPTTL
		SET k v XX
		SET k v NX
		SET k v GET
		SET k v IFEQ x`},
	{names: "msetex", rule: msetex, forms: `MSETEX 1 k v EX 10
		MSETEX 1 k v XX EX 10
		MSETEX 1 k v NX`},
	{names: "getex", rule: getex, forms: `GETEX k
		GETEX k PERSIST
		GETEX k EX 60
		GETEX k EX 59
		GETEX k EXAT 1900000000`},
	{names: "delex", rule: func(a Args) Class { return when(len(a) == 2, constant.positive()) }, forms: `DELEX k
		DELEX k IFEQ v`},
	{names: "digest", is: read},
	{names: "bitfield", rule: func(a Args) Class { return when(!a.has(2, "set", "incrby"), read) }, forms: `BITFIELD k GET u8 0
		BITFIELD k SET u8 0 1
		BITFIELD k INCRBY u8 0 1`},
	{names: "bitop", rule: func(a Args) Class { return store(a, 2, 3) }, forms: `BITOP AND dest a b
		BITOP AND dest dest b`},
	{names: "append decr decrby incr incrby incrbyfloat increx", is: no, why: whyAgain},
	{names: "setbit getset setnx msetnx delifeq", is: no, why: whyDecides},
	{names: "getdel", is: no, why: whyGives},

	// Keys.
	{names: "del unlink", rule: func(a Args) Class { return constant.all(distinct(a, 1, 1)) }, forms: `DEL k1 k2
		UNLINK k`},
	{names: "expire expireat pexpire pexpireat", rule: func(a Args) Class { return when(!a.has(3, "nx", "gt", "lt"), again.positive()) }, forms: `EXPIRE k 10
		EXPIRE k 10 XX
		EXPIRE k 10 NX
		EXPIRE k 10 GT
		EXPIREAT k 1900000000
		PEXPIRE k 10000
		PEXPIREAT k 1900000000000`},
	{names: "persist", is: again.positive()},
	{names: "copy", rule: func(a Args) Class { return when(a.has(3, "replace") && readable(a, 3), again.positive()) }, forms: `COPY a b REPLACE
		COPY a b`},
	{names: "restore", rule: func(a Args) Class { return when(a.has(4, "replace") && readable(a, 4), constant) }, forms: `RESTORE k 0 x REPLACE
		RESTORE k 0 x`},
	{names: "sort", rule: sort_, forms: `SORT k
		SORT k STORE dest
		SORT k STORE k`},
	{names: "touch", is: read},
	{names: "move rename renamenx swapdb", is: no, why: whyAgain},
	{names: "migrate restore-asking", is: no, why: whyAdmin},

	// Hashes.
	{names: "hset", is: constant, why: whyCount},
	{names: "hmset", is: constant},
	{names: "hdel", rule: func(a Args) Class { return constant.all(distinct(a, 2, 1)) }, forms: `HDEL h f1 f2`},
	{names: "hexpire hexpireat hpexpire hpexpireat", rule: func(a Args) Class {
		return when(!a.Is(3, "nx", "gt", "lt") && readable(a[:min(4, len(a))], 3), again.each(2)) // 2: deleted, because its time had passed
	}, forms: `HEXPIRE h 10 FIELDS 1 f
		HEXPIRE h 10 NX FIELDS 1 f
		HEXPIREAT h 1900000000 FIELDS 1 f
		HPEXPIRE h 10000 FIELDS 1 f
		HPEXPIREAT h 1900000000000 FIELDS 1 f`},
	{names: "hpersist", is: again.each(1)},
	{names: "hgetex", rule: getex, forms: `HGETEX h FIELDS 1 f
		HGETEX h PERSIST FIELDS 1 f
		HGETEX h EX 60 FIELDS 1 f
		HGETEX h EX 59 FIELDS 1 f
		HGETEX h EXAT 1900000000 FIELDS 1 f`},
	{names: "hsetex", rule: hsetex, forms: `HSETEX h EX 10 FIELDS 1 f v
		HSETEX h FXX EX 10 FIELDS 1 f v
		HSETEX h FNX EX 10 FIELDS 1 f v`},
	{names: "hgetdel", is: no, why: whyGives},
	{names: "hincrby hincrbyfloat", is: no, why: whyAgain},
	{names: "hsetnx", is: no, why: whyDecides},
	{names: "himport himport|set", is: no, why: whyBound},

	// Lists.
	{names: "ltrim", rule: ltrim, forms: `LTRIM l 0 99
		LTRIM l -100 -1
		LTRIM l 1 -1`},
	{names: "lrem", rule: func(a Args) Class {
		n, ok := a.number(2)
		return when(ok && n == 0, constant.never()) // others may add the same in between
	}, forms: `LREM l 0 v
		LREM l 1 v`},
	{names: "linsert lpush lpushx rpush rpushx", is: no, why: whyAgain},
	{names: "lset", is: no, why: whyPosition},
	{names: "blmove blmpop blpop brpop brpoplpush lmove lmpop lpop rpop rpoplpush", is: no, why: whyGives},

	// Sets.
	{names: "sadd srem", rule: func(a Args) Class { return constant.all(distinct(a, 2, 1)) }, forms: `SADD s m1 m2
		SREM s m`},
	{names: "sdiffstore sinterstore sunionstore", rule: func(a Args) Class { return store(a, 1, 2) }, forms: `SDIFFSTORE dest a b
		SINTERSTORE dest a b
		SUNIONSTORE dest a b
		SUNIONSTORE dest a dest`},
	{names: "smove", is: no, why: whyDecides},
	{names: "spop", is: no, why: whyGives},

	// Sorted sets.
	{names: "zadd", rule: zadd, forms: `ZADD z 1 m
		ZADD z XX 1 m
		ZADD z GT 1 m
		ZADD z CH 1 m
		ZADD z NX 1 m
		ZADD z INCR 1 m`, why: whyCount},
	{names: "geoadd", rule: geoadd, forms: `GEOADD g 1 2 m
		GEOADD g XX 1 2 m
		GEOADD g CH 1 2 m
		GEOADD g NX 1 2 m`, why: whyCount},
	{names: "zrem", rule: func(a Args) Class { return constant.all(distinct(a, 2, 1)) }, forms: `ZREM z m1 m2`},
	{names: "zremrangebylex zremrangebyscore", is: constant.never()},
	{names: "zremrangebyrank", rule: zremrangebyrank, forms: `ZREMRANGEBYRANK z 0 -101
		ZREMRANGEBYRANK z 0 5`},
	{names: "zdiffstore zinterstore zunionstore", rule: func(a Args) Class { return store(a, 1, 2) }, forms: `ZDIFFSTORE dest 2 a b
		ZINTERSTORE dest 2 a b
		ZUNIONSTORE dest 2 a b
		ZUNIONSTORE dest 2 a dest`},
	{names: "zrangestore geosearchstore", rule: func(a Args) Class { return store(a, 1, 2) }, forms: `ZRANGESTORE dest a 0 5
		GEOSEARCHSTORE dest g FROMMEMBER m BYRADIUS 1 km`},
	{names: "georadius georadiusbymember", rule: georadius, forms: `GEORADIUS g 1 2 3 km
		GEORADIUS g 1 2 3 km STORE dest
		GEORADIUS g 1 2 3 km STORE g
		GEORADIUSBYMEMBER g m 3 km
		GEORADIUSBYMEMBER g m 3 km STORE dest`},
	{names: "zincrby", is: no, why: whyAgain},
	{names: "bzmpop bzpopmax bzpopmin zmpop zpopmax zpopmin", is: no, why: whyGives},

	// HyperLogLogs.
	{names: "pfadd", is: constant.positive()},
	{names: "pfmerge", is: again},
	{names: "pfcount", is: read},
	{names: "pfdebug pfselftest", is: no, why: whyAdmin},

	// Streams.
	{names: "xadd", rule: xadd, forms: `XADD s 5-1 f v
		XADD s NOMKSTREAM 5-1 f v
		XADD s * f v`},
	{names: "xdel", rule: func(a Args) Class { return constant.all(distinct(a, 2, 1)) }, forms: `XDEL s 5-1 5-2`},
	{names: "xdelex", is: constant.each(1)},
	{names: "xack", rule: func(a Args) Class { return again.all(distinct(a, 3, 1)) }, forms: `XACK s g 5-1 5-2`},
	{names: "xackdel", is: again.each(1)},
	{names: "xtrim", is: again.never(), forms: `XTRIM s MAXLEN 100
		XTRIM s MINID 5
		XTRIM s MAXLEN ~ 100`},
	{names: "xsetid", is: again},
	{names: "xgroup|createconsumer", is: again.positive()},
	{names: "xread", rule: func(a Args) Class { return when(!a.has(1, "$"), read) }, forms: `XREAD STREAMS s 5-1
		XREAD BLOCK 0 STREAMS s $`, why: "$ is another place the second time: what came in between is lost"},
	{names: "xreadgroup", rule: xreadgroup, forms: `XREADGROUP GROUP g c STREAMS s 0
		XREADGROUP GROUP g c STREAMS s >`},
	{names: "xautoclaim xclaim xnack", is: no, why: whyGives},
	{names: "xgroup|create", is: no, why: whyExists},
	{names: "xcfgset xidmprecord xgroup xgroup|delconsumer xgroup|destroy xgroup|setid", is: no, why: whyAdmin},
	{names: "xgroup|help xinfo|help object|help", is: read},

	// Vector sets.
	{names: "vrange", is: read},
	{names: "vrem vsetattr", is: constant.positive()},
	{names: "vadd", is: no, why: whyDecides},

	// Scripts and functions. A *_RO script cannot write.
	{names: "eval evalsha fcall", is: no, why: "a script may do anything"},
	{names: "eval_ro evalsha_ro fcall_ro", is: read},
	{names: "script|load", is: constant},
	{names: "function|load", rule: func(a Args) Class { return when(a.Is(2, "replace"), constant) }, forms: `FUNCTION LOAD REPLACE x
		FUNCTION LOAD x`},
	{names: "script|exists script|help script|show function|dump function|help function|list function|stats", is: read},
	{names: "script|debug script|flush script|kill function|delete function|flush function|kill function|restore", is: no, why: whyAdmin},

	// Inspecting the server.
	{names: `ping echo time info role lastsave lolwut
		command command|count command|docs command|getkeys command|getkeysandflags command|help command|info command|list
		commandlog|get commandlog|help commandlog|len config|get config|help
		hotkeys|get hotkeys|help latency|doctor latency|graph latency|help latency|histogram latency|history latency|latest
		memory|doctor memory|help memory|malloc-stats memory|stats memory|usage module|help module|list
		pubsub|channels pubsub|help pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub
		slowlog|get slowlog|help slowlog|len
		acl|cat acl|dryrun acl|genpass acl|getuser acl|help acl|list acl|users acl|whoami
		cluster|count-failure-reports cluster|countkeysinslot cluster|getkeysinslot cluster|getslotmigrations
		cluster|help cluster|info cluster|keyslot cluster|links cluster|myid cluster|myshardid
		cluster|nodes cluster|replicas cluster|shards cluster|slaves cluster|slot-stats cluster|slots
		sentinel|get-master-addr-by-name sentinel|masters sentinel|master sentinel|replicas
		sentinel|slaves sentinel|sentinels sentinel|myid sentinel|ckquorum`, is: read},
	{names: "acl|log", rule: func(a Args) Class { return when(!a.has(2, "reset"), read) }, forms: `ACL LOG
		ACL LOG RESET`},

	// Changing the server. Settings are constants.
	{names: "config|set config|rewrite memory|purge", is: constant},
	{names: `acl cluster config function latency memory module object pubsub script slowlog commandlog xinfo
		acl|deluser acl|load acl|save acl|setuser
		bgrewriteaof bgsave save config|resetstat commandlog|reset slowlog|reset latency|reset
		hotkeys hotkeys|reset hotkeys|start hotkeys|stop trimslots
		debug failover flushall flushdb module|load module|loadex module|unload psync replconf
		replicaof shutdown slaveof sync
		cluster|addslots cluster|addslotsrange cluster|bumpepoch cluster|delslots cluster|delslotsrange
		cluster|failover cluster|flushslots cluster|forget cluster|meet cluster|migrateslots
		cluster|cancelslotmigrations cluster|migration cluster|syncslots
		cluster|replicate cluster|reset cluster|saveconfig cluster|set-config-epoch cluster|setslot`, is: no, why: whyAdmin},

	// Messages.
	{names: "publish spublish", is: no, why: "a second message is delivered, too"},
}
