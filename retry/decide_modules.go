package retry

import "strings"

// decideModule is decide for the modules that come with Redis 8 and Valkey:
// JSON, search, time series and the probabilistic types. Their servers may not
// have been at hand when the table was made.
func decideModule(name string, a args) (verdict, bool) {
	switch name {
	case "json.get", "json.mget", "json.type", "json.strlen", "json.arrlen", "json.arrindex", "json.objkeys",
		"json.objlen", "json.resp", "json.debug|memory", "json.debug|help",
		"ft.search", "ft.info", "ft._list", "ft.explain", "ft.explaincli", "ft.spellcheck",
		"ft.tagvals", "ft.syndump", "ft.dictdump", "ft.sugget", "ft.suglen", "ft.config|get",
		"ts.get", "ts.mget", "ts.range", "ts.revrange", "ts.mrange", "ts.mrevrange", "ts.info", "ts.queryindex",
		"bf.exists", "bf.mexists", "bf.info", "bf.card", "bf.scandump",
		"cf.exists", "cf.mexists", "cf.info", "cf.count", "cf.scandump",
		"cms.query", "cms.info", "topk.query", "topk.list", "topk.info", "topk.count",
		"tdigest.byrank", "tdigest.byrevrank", "tdigest.cdf", "tdigest.info", "tdigest.max", "tdigest.min",
		"tdigest.quantile", "tdigest.rank", "tdigest.revrank", "tdigest.trimmed_mean":
		return read, true
	case "ft.aggregate", "ft.hybrid": // a cursor is left behind
		return when(!a.has(2, "withcursor"), read), true
	case "json.set": // JSON.SET key path value [NX|XX]
		if len(a) == 5 && a.is(4, "xx") {
			return when(steady(a, 2), again), true
		}
		return when(len(a) == 4 && steady(a, 2), constant), true
	case "json.merge", "json.clear":
		return when(steady(a, 2), again), true
	case "json.del", "json.forget":
		return when(steady(a, 2), constant), true
	case "json.mset":
		for i := 2; i < len(a); i += 3 {
			if !steady(a, i) {
				return no, true
			}
		}
		return when(len(a) > 3, constant), true
	case "bf.add", "bf.madd", "bf.insert":
		return again, true
	case "json.arrappend", "json.arrinsert", "json.arrpop", "json.arrtrim", "json.numincrby", "json.nummultby",
		"json.strappend", "json.toggle":
		return no, true
	}
	return no, false
}

// steady reports whether a JSON path, if argument i is there, names the same
// place after a first execution: a place in an array need not.
func steady(a args, i int) bool {
	if i >= len(a) {
		return true
	}
	path, ok := a.text(i)
	return ok && !strings.ContainsAny(path, "[?*") && !strings.Contains(path, "..")
}
