package command

import "strings"

// moduleDecisions cover the modules that come with Redis 8 and Valkey: JSON, search, time series
// and the probabilistic types. The servers that the command table was generated from may not have
// had them. A command that is not listed is unknown, and so unsafe: TS.ADD, CF.ADD, TOPK.ADD,
// CMS.INCRBY, FT.CREATE ...
var moduleDecisions = []decision{
	{names: `json.get json.mget json.type json.strlen json.arrlen json.arrindex json.objkeys
		json.objlen json.resp json.debug|memory json.debug|help
		ft.search ft.info ft._list ft.explain ft.explaincli ft.spellcheck
		ft.tagvals ft.syndump ft.dictdump ft.sugget ft.suglen ft.config|get
		ts.get ts.mget ts.range ts.revrange ts.mrange ts.mrevrange ts.info ts.queryindex
		bf.exists bf.mexists bf.info bf.card bf.scandump
		cf.exists cf.mexists cf.info cf.count cf.scandump
		cms.query cms.info topk.query topk.list topk.info topk.count
		tdigest.byrank tdigest.byrevrank tdigest.cdf tdigest.info tdigest.max tdigest.min
		tdigest.quantile tdigest.rank tdigest.revrank tdigest.trimmed_mean`, is: read},
	{names: "ft.aggregate ft.hybrid", rule: func(a Args) Class { return when(!a.has(2, "withcursor"), read) },
		forms: `FT.AGGREGATE i q
		FT.AGGREGATE i q WITHCURSOR
		FT.HYBRID i q`, why: "a cursor is left behind"},
	{names: "json.set", rule: jsonSet, forms: `JSON.SET k $ 1
		JSON.SET k $.a 1
		JSON.SET k $ 1 XX
		JSON.SET k $ 1 NX
		JSON.SET k $.a[0] 1`},
	{names: "json.merge", rule: func(a Args) Class { return when(steady(a, 2), again.value()) }, forms: `JSON.MERGE k $.a 1
		JSON.MERGE k $.a[0] 1`},
	{names: "json.clear", rule: func(a Args) Class { return when(steady(a, 2), again.positive()) }, forms: `JSON.CLEAR k $.a
		JSON.CLEAR k $.a[0]`},
	{names: "json.del json.forget", rule: func(a Args) Class { return when(steady(a, 2), constant.positive()) }, forms: `JSON.DEL k $.a
		JSON.DEL k $.a[0]
		JSON.FORGET k $.a`},
	{names: "json.mset", rule: jsonMSet, forms: `JSON.MSET k $ 1
		JSON.MSET k $.a[0] 1`},
	{names: "bf.add", is: again.positive()},
	{names: "bf.madd bf.insert", is: again.each(1)},
	{names: "json.arrappend json.arrinsert json.numincrby json.nummultby json.strappend json.toggle", is: no, why: whyAgain},
	{names: "json.arrpop", is: no, why: whyGives},
	{names: "json.arrtrim", is: no, why: whyPosition},
}

// jsonSet: JSON.SET key path value [NX|XX]. It replies nil if the path does not exist; the root
// always exists.
func jsonSet(a Args) Class {
	switch {
	case !steady(a, 2):
		return no
	case len(a) == 5 && a.Is(4, "xx"):
		return again.value()
	case len(a) != 4:
		return no
	case a.Is(2, "$", "."):
		return constant
	}
	return constant.value()
}

func jsonMSet(a Args) Class {
	for i := 2; i < len(a); i += 3 {
		if !steady(a, i) {
			return no
		}
	}
	return when(len(a) > 3, constant)
}

// steady reports whether the JSON path in argument i, if there is one, still names the same value
// after a first execution: for a position in an array that may not be so.
func steady(a Args, i int) bool {
	if i >= len(a) {
		return true
	}
	path, ok := a.Text(i)
	return ok && !strings.ContainsAny(path, "[?*") && !strings.Contains(path, "..")
}
