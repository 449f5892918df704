package main

// class says what Adaptive may do with a method of redis.UniversalClient.
type class struct {
	name string
	// way is what is generated: batched, batchedOnOne, or direct.
	way way
	// why, for direct ones, is the reason; a reader who wants to change a class
	// begins there.
	why     string
	methods string
}

type way int

const (
	direct       way = iota
	batched          // one key, which is the first argument
	batchedOnOne     // only by the client of one server: in a cluster, go-redis may have to split or to spread it
)

// classes has every method of redis.UniversalClient exactly once. What is not
// known for sure is direct: that is always right, and only slower.
var classes = []class{
	{"strings", batched, "", `Append Decr DecrBy DelExArgs Digest Get GetDel GetEx GetRange GetSet Incr IncrBy IncrByFloat IncrEXFloat
		IncrEXInt Set SetArgs SetEx SetIFDEQ SetIFDEQGet SetIFDNE SetIFDNEGet SetIFEQ SetIFEQGet SetIFNE SetIFNEGet SetNX
		SetRange SetXX StrLen`},
	{"bitmaps", batched, "", `BitCount BitField BitFieldRO BitPos BitPosSpan GetBit SetBit`},
	{"hashes", batched, "", `HDel HExists HExpire HExpireAt HExpireAtWithArgs HExpireTime HExpireWithArgs HGet HGetAll HGetDel HGetEX
		HGetEXWithArgs HIncrBy HIncrByFloat HKeys HLen HMGet HMSet HPExpire HPExpireAt HPExpireAtWithArgs HPExpireTime
		HPExpireWithArgs HPTTL HPersist HRandField HRandFieldWithValues HSet HSetEX HSetEXWithArgs HSetNX HStrLen HTTL HVals`},
	{"lists", batched, "", `LIndex LInsert LInsertAfter LInsertBefore LLen LPop LPopCount LPos LPosCount LPush LPushX LRange LRem LSet
		LTrim RPop RPopCount RPush RPushX`},
	{"sets", batched, "", `SAdd SCard SIsMember SMIsMember SMembers SMembersMap SPop SPopN SRandMember SRandMemberN SRem`},
	{"sorted sets", batched, "", `ZAdd ZAddArgs ZAddArgsIncr ZAddGT ZAddLT ZAddNX ZAddXX ZCard ZCount ZIncrBy ZLexCount ZMScore ZPopMax
		ZPopMin ZRandMember ZRandMemberWithScores ZRange ZRangeArgs ZRangeArgsWithScores ZRangeByLex ZRangeByScore
		ZRangeByScoreWithScores ZRangeWithScores ZRank ZRankWithScore ZRem ZRemRangeByLex ZRemRangeByRank ZRemRangeByScore
		ZRevRange ZRevRangeByLex ZRevRangeByScore ZRevRangeByScoreWithScores ZRevRangeWithScores ZRevRank ZRevRankWithScore
		ZScore`},
	{"streams", batched, "", `XAck XAdd XDel XLen XRange XRangeN XRevRange XRevRangeN XTrimMaxLen XTrimMaxLenApprox XTrimMinID
		XTrimMinIDApprox`},
	{"geo", batched, "", `GeoAdd GeoDist GeoHash GeoPos GeoSearch GeoSearchLocation`},
	{"HyperLogLogs", batched, "", `PFAdd`},
	{"expiry", batched, "", `Expire ExpireAt ExpireGT ExpireLT ExpireNX ExpireTime ExpireXX PExpire PExpireAt PExpireTime PTTL Persist
		TTL Type`},
	{"messages to one shard", batched, "", `SPublish`},

	{"several keys", batchedOnOne, "", `Del Exists LMove MGet MSet MSetEX MSetNX PFCount PFMerge RPopLPush SDiff SInter SMove SUnion Touch
		Unlink`},
	{"messages", batchedOnOne, "", `Publish`},

	{"wait in the server", direct, "would hold up the batch", `BLMPop BLMove BLMoveM BLPop BRPop BRPopLPush BZMPop BZPopMax BZPopMin Migrate XRead
		XReadGroup XReadStreams TSRead TSReadWithArgs`},
	{"subscriptions, transactions, pipelines", direct, "have a connection of their own, or are batches already", `Subscribe PSubscribe
		SSubscribe Watch Pipeline Pipelined TxPipeline TxPipelined AutoPipeline AutoPipelineWithOptions AsyncAutoPipeline
		AsyncAutoPipelineWithOptions`},
	{"the client itself", direct, "no commands", `AddHook Close PoolStats`},
	{"anything", direct, "what is in it is not known; the caller keeps the Cmder, so it could not be left behind when a ctx ends", `Do Process`},
	{"scripts", direct, "may take long; EVALSHA may need the script first", `Eval EvalRO EvalSha EvalShaRO FCall FCallRO FCallRo
		FunctionDelete FunctionDump FunctionFlush FunctionFlushAsync FunctionKill FunctionList FunctionLoad FunctionLoadReplace
		FunctionRestore FunctionStats ScriptExists ScriptFlush ScriptKill ScriptLoad`},
	{"the connection", direct, "change or look at the connection that carries them", `ClientGetName ClientID ClientInfo ClientKill
		ClientKillByFilter ClientList ClientMaintNotifications ClientPause ClientTracking ClientTrackingOff ClientTrackingOn
		ClientUnblock ClientUnblockWithError ClientUnpause Echo Ping Quit ReadOnly ReadWrite`},
	{"the caller's memory", direct, "read into, or sent from, a buffer of the caller's", `GetToBuffer SetFromBuffer`},
	{"sessions", direct, "need a state of their connection", `HImportDiscard HImportDiscardAll HImportPrepare HImportSet`},
	{"iterators", direct, "keep the client for their next page", `HScan HScanNoValues SScan Scan ScanType ZScan BFScanDump CFScanDump`},
	{"heavy ones", direct, "compute or move much: a batch gains nothing, and would wait for it", `BitOpAnd BitOpAndOr BitOpDiff BitOpDiff1 BitOpNot
		BitOpOne BitOpOr BitOpXor Copy Dump GeoRadius GeoRadiusByMember GeoRadiusByMemberStore GeoRadiusStore GeoSearchStore Keys
		LCS LMPop LMoveM Move RandomKey Rename RenameNX Restore RestoreReplace SDiffCard SDiffStore SInterCard SInterStore
		SUnionCard SUnionStore Sort SortInterfaces SortRO SortStore ZDiff ZDiffStore ZDiffWithScores ZInter ZInterCard
		ZInterStore ZInterWithScores ZMPop ZRangeStore ZUnion ZUnionStore ZUnionWithScores`},
	{"stream administration", direct, "rare", `XAckDel XAutoClaim XAutoClaimJustID XAutoClaimWithDeleted XCfgSet XClaim XClaimJustID
		XDelEx XGroupCreate XGroupCreateConsumer XGroupCreateMkStream XGroupDelConsumer XGroupDestroy XGroupSetID XInfoConsumers
		XInfoGroups XInfoStream XInfoStreamFull XNack XPending XPendingExt XTrimMaxLenApproxMode XTrimMaxLenMode
		XTrimMinIDApproxMode XTrimMinIDMode`},
	{"the server", direct, "rare, or of one server of many", `ACLCat ACLCatArgs ACLDelUser ACLDryRun ACLGenPass ACLList ACLLog
		ACLLogReset ACLSetUser ACLUsers ACLWhoAmI BgRewriteAOF BgSave ClusterAddSlots ClusterAddSlotsRange
		ClusterCountFailureReports ClusterCountKeysInSlot ClusterDelSlots ClusterDelSlotsRange ClusterFailover ClusterForget
		ClusterGetKeysInSlot ClusterInfo ClusterKeySlot ClusterLinks ClusterMeet ClusterMyID ClusterMyShardID ClusterNodes
		ClusterReplicate ClusterResetHard ClusterResetSoft ClusterSaveConfig ClusterShards ClusterSlaves ClusterSlots Command
		CommandGetKeys CommandGetKeysAndFlags CommandList ConfigGet ConfigResetStat ConfigRewrite ConfigSet DBSize DebugObject
		FlushAll FlushAllAsync FlushDB FlushDBAsync Info InfoMap LastSave Latency LatencyReset MemoryUsage ModuleLoadex
		ObjectEncoding ObjectFreq ObjectIdleTime ObjectRefCount PubSubChannels PubSubNumPat PubSubNumSub PubSubShardChannels
		PubSubShardNumSub ReplicaOf Save Shutdown ShutdownNoSave ShutdownSave SlaveOf SlowLogGet SlowLogLen SlowLogReset Time`},
	{"modules and new types", direct, "a reply that go-redis cannot read would take those behind it along", modules},
}

const modules = `
	ARCount ARDel ARDelRange ARGet ARGetRange ARGrep ARGrepWithValues ARInfo ARInfoFull ARInsert ARLastItems ARLen ARMGet
	ARMSet ARNext AROpAnd AROpMatch AROpMax AROpMin AROpOr AROpSum AROpUsed AROpXor ARRing ARScan ARSeek ARSet BFAdd BFCard
	BFExists BFInfo BFInfoArg BFInfoCapacity BFInfoExpansion BFInfoFilters BFInfoItems BFInfoSize BFInsert BFLoadChunk
	BFMAdd BFMExists BFReserve BFReserveExpansion BFReserveNonScaling BFReserveWithArgs CFAdd CFAddNX CFCount CFDel
	CFExists CFInfo CFInsert CFInsertNX CFLoadChunk CFMExists CFReserve CFReserveBucketSize CFReserveExpansion
	CFReserveMaxIterations CFReserveWithArgs CMSIncrBy CMSInfo CMSInitByDim CMSInitByProb CMSMerge CMSMergeWithWeight
	CMSQuery FTAggregate FTAggregateWithArgs FTAliasAdd FTAliasDel FTAliasList FTAliasUpdate FTAlter FTConfigGet
	FTConfigSet FTCreate FTCursorDel FTCursorRead FTDictAdd FTDictDel FTDictDump FTDropIndex FTDropIndexWithArgs FTExplain
	FTExplainWithArgs FTHybrid FTHybridWithArgs FTInfo FTSearch FTSearchWithArgs FTSpellCheck FTSpellCheckWithArgs
	FTSynDump FTSynUpdate FTSynUpdateWithArgs FTTagVals FT_List JSONArrAppend JSONArrIndex JSONArrIndexWithArgs
	JSONArrInsert JSONArrLen JSONArrPop JSONArrTrim JSONArrTrimWithArgs JSONClear JSONDebugMemory JSONDel JSONForget
	JSONGet JSONGetWithArgs JSONMGet JSONMSet JSONMSetArgs JSONMerge JSONNumIncrBy JSONObjKeys JSONObjLen JSONSet
	JSONSetMode JSONSetWithArgs JSONStrAppend JSONStrLen JSONToggle JSONType TDigestAdd TDigestByRank TDigestByRevRank
	TDigestCDF TDigestCreate TDigestCreateWithCompression TDigestInfo TDigestMax TDigestMerge TDigestMin TDigestQuantile
	TDigestRank TDigestReset TDigestRevRank TDigestTrimmedMean TSAdd TSAddWithArgs TSAlter TSCreate TSCreateRule
	TSCreateRuleWithArgs TSCreateWithArgs TSDecrBy TSDecrByWithArgs TSDel TSDeleteRule TSGet TSGetWithArgs TSIncrBy
	TSIncrByWithArgs TSInfo TSInfoWithArgs TSMAdd TSMGet TSMGetWithArgs TSMRange TSMRangeWithArgs TSMRevRange
	TSMRevRangeWithArgs TSNRange TSNRangeWithArgs TSNRevRange TSNRevRangeWithArgs TSQueryIndex TSQueryLabelValues
	TSQueryLabels TSRange TSRangeWithArgs TSRevRange TSRevRangeWithArgs TopKAdd TopKCount TopKIncrBy TopKInfo TopKList
	TopKListWithCount TopKQuery TopKReserve TopKReserveWithOptions VAdd VAddWithArgs VCard VClearAttributes VDim VEmb
	VGetAttr VInfo VIsMember VLinks VLinksWithScores VRandMember VRandMemberCount VRange VRem VSetAttr VSim VSimWithArgs
	VSimWithArgsWithAttribs VSimWithArgsWithScores VSimWithArgsWithScoresWithAttribs VSimWithScores`
