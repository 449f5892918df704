package retry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// page is docs/COMMANDS.md: every command with its class, and the refusals.
func page() string {
	var b strings.Builder
	b.WriteString(`<!-- Written by go generate ./retry from retry/decide.go and retry/refusal.go; do not edit. -->

# Which commands are retried

For developers who ask whether a command is retried.

When a command was sent and no reply came, it may have been executed. It is retried only if that is harmless, and the caller gets the reply
of the repetition only if the first reply must have been the same. This page lists every command of Redis 7.0 to 8.6, of Valkey 8.1 and of the
modules of Redis. A command that is not listed is unknown, and so it is unsafe. Where a line shows arguments, the class depends on them.
` + "`retry.SafetyOf(cmd)`" + ` tells the class, and a ` + "`Classifier`" + ` of your own can decide otherwise.

"The same" means: when nobody else acts in between. If somebody does, a write that is repeated overwrites theirs
([NoRepeatWrites](RELIABILITY.md#norepeatwrites)).

`)
	b.WriteString("## Same state, same reply\n\n`retry.IdempotentWrite`: repeated, and the second reply is the answer.\n\n| command | |\n|---|---|\n")
	for _, f := range forms() {
		if f.safety == IdempotentWrite {
			fmt.Fprintf(&b, "| `%s` | %s |\n", f.text, f.why)
		}
	}
	b.WriteString("\n## Same state, but the reply may tell less\n\n`retry.IdempotentState`: repeated, so that the state is as asked. The second reply is the answer if it is one of the\n" +
		"second column: after a first execution, a repetition does not get it. Otherwise the error is an `*UnknownOutcomeError` with\n" +
		"`Applied: true`: it was carried out, and what the first one replied is not known. `retry.Applied(err)` asks for that.\n" +
		"`Policy.IgnoreCounts`, and for one call `retry.Idempotent(ctx)`, take any reply.\n\n| command | replies that are the answer |\n|---|---|\n")
	for _, f := range forms() {
		if f.safety == IdempotentState {
			fmt.Fprintf(&b, "| `%s` | %s |\n", f.text, f.proof)
		}
	}
	b.WriteString("\n## Unsafe\n\n`retry.Unsafe`: sent once. Without a reply the error is `ErrUnknownOutcome`.\n\n| commands | why |\n|---|---|\n")
	groups := map[string][]string{}
	var whys []string
	for _, f := range forms() {
		if f.safety == Unsafe {
			if groups[f.why] == nil {
				whys = append(whys, f.why)
			}
			groups[f.why] = append(groups[f.why], "`"+f.text+"`")
		}
	}
	slices.Sort(whys)
	for _, why := range whys {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(groups[why], ", "), why)
	}
	b.WriteString("\n## Reads\n\n`retry.ReadOnly`: repeated; nobody can tell.\n\n")
	var reads []string
	for _, f := range forms() {
		if f.safety == ReadOnly {
			reads = append(reads, "`"+f.text+"`")
		}
	}
	b.WriteString(strings.Join(reads, ", ") + "\n\n## Refusals\n\n" +
		"Replies of the server that mean: this was not executed. They cost nothing of the budget, only the backoff.\n" +
		"`retry.Refusal(err)` tells which one an error is. A script can reply anything by itself, so a refusal of `EVAL`, `EVALSHA` or `FCALL` counts only if it is word for word the\n" +
		"server's and is not among the arguments. (A script that is called by its hash and replies with the very words of a server cannot be told apart.)\n\n" +
		"| reply | what follows | source |\n|---|---|---|\n")
	for _, r := range refusals {
		fmt.Fprintf(&b, "| `%s ...` | %s | Redis, %s |\n", strings.TrimSpace(r.begins), r.what, r.source)
	}
	b.WriteString("| `" + textAbortedBy + "...` | the transaction is sent again whole if its reason is one of the above, but not in a `Watch` or on a lease: `EXEC` has undone the `WATCH` | Redis, src/multi.c: execCommandAbort |\n")
	b.WriteString("| `EXECABORT Transaction discarded because of previous errors.` | the same, if all those errors are refusals | Redis, src/server.c: createSharedObjects |\n")
	b.WriteString("| `" + textNewClient + " reached` | to a new connection, before its first command: it is tried again, as a failed dial is | Redis, src/networking.c: acceptCommonHandler |\n")
	b.WriteString("\nIn Valkey's sources the files have the same names; `cluster.c` is split into `cluster.c` and `cluster_legacy.c` there, and in Redis from 7.4 on.\n")
	return b.String()
}

// form is a command, or a way to call one.
type form struct {
	text, why, proof string
	safety           Safety
}

// forms are all known commands by name.
func forms() []form {
	names := map[string]bool{}
	for _, c := range commands {
		names[c.name] = true
	}
	for name := range decided() {
		names[name] = true
	}
	var all []form
	for name := range names {
		d := decided()[name]
		if d == nil || d.rule == nil {
			f := form{text: strings.ToUpper(strings.ReplaceAll(name, "|", " "))}
			f.fill(classOf(cmdOf(f.text)).verdict, d, name)
			all = append(all, f)
			continue
		}
		for line := range strings.Lines(d.forms) {
			line = strings.TrimSpace(line)
			if n, _ := nameOf(cmdOf(line)); n == name {
				f := form{text: line}
				f.fill(classOf(cmdOf(line)).verdict, d, name)
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b form) int { return strings.Compare(a.text, b.text) })
	return all
}

func (f *form) fill(v verdict, d *decision, name string) {
	f.safety, f.proof = v.safety, v.proof.String()
	switch {
	case f.safety == Unsafe && isBound(name):
		f.why = whyBound
	case f.safety == Unsafe && d != nil && d.why == "", f.safety == Unsafe && d != nil && d.why == whyCount:
		f.why = whyDepends
	case d != nil && f.safety != ReadOnly:
		f.why = d.why
	}
	if f.safety == IdempotentWrite && strings.Contains(f.text, " XX ") {
		f.why = ""
	}
}

// String says which replies prove it.
func (p proof) String() string {
	switch p.kind {
	case proofValue:
		return "any but nil; of several values, if none is nil"
	case proofPositive:
		return "1 or more, or true"
	case proofAll:
		return "one for each different key, member, field or id that was given"
	case proofEach:
		if p.n == 2 {
			return "1 or 2 for each"
		}
		return "1, or true, for each"
	}
	return "none"
}

// cmdOf is a command of words.
func cmdOf(line string) redis.Cmder {
	words := strings.Fields(line)
	a := make([]any, len(words))
	for i, w := range words {
		a[i] = w
	}
	return redis.NewCmd(context.Background(), a...)
}
