package retry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// page is docs/COMMANDS.md: every command with its class, and the refusals.
func page() string {
	var b strings.Builder
	b.WriteString(`<!-- Written by go generate ./internal/command from its classes.go and from retry/refusal.go; do not edit. -->

# Which commands are retried

For developers who ask whether a command is retried.

When a command was sent and no reply came, it may have been executed. It is retried only if that is harmless, and the
caller gets the reply of the retry only if the first reply must have been the same.

This page lists every command of Redis 7.0 to 8.6, of Valkey 8.1 and of the modules of Redis. A command that is not
listed is unknown, and so it is unsafe. Where a line shows arguments, the class depends on them.
` + "`retry.SafetyOf(cmd)`" + ` returns the class, and a ` + "`Classifier`" + ` of your own can decide otherwise.

"The same" assumes that nobody else writes in between: the retry would overwrite that write
([NoRepeatWrites](RELIABILITY.md#norepeatwrites)).

`)
	b.WriteString("## Same state, same reply\n\n`retry.IdempotentWrite`: repeated, and the second reply is the answer.\n\n| command | |\n|---|---|\n")
	for _, f := range command.Forms() {
		if f.Safety == command.IdempotentWrite {
			fmt.Fprintf(&b, "| `%s` | %s |\n", f.Text, f.Why)
		}
	}
	b.WriteString("\n## Same state, but the reply may say less\n\n`retry.IdempotentState`: repeated, so that the state is as asked. The second reply is the answer if it is one of the\n" +
		"second column: after a first execution, a retry does not get it. Otherwise the error is an `*UnknownOutcomeError`\n" +
		"with `Applied: true`: it was executed, and what the first one replied is not known. `retry.Applied(err)` reports\n" +
		"that. " +
		"`Policy.IgnoreCounts`, and for one call `retry.Idempotent(ctx)`, take any reply.\n\n| command | replies that are the answer |\n|---|---|\n")
	for _, f := range command.Forms() {
		if f.Safety == command.IdempotentState {
			fmt.Fprintf(&b, "| `%s` | %s |\n", f.Text, f.Proof)
		}
	}
	b.WriteString("\n## Unsafe\n\n`retry.Unsafe`: sent once. Without a reply the error is `ErrUnknownOutcome`.\n\n| commands | why |\n|---|---|\n")
	groups := map[string][]string{}
	var whys []string
	for _, f := range command.Forms() {
		if f.Safety == command.Unsafe {
			if groups[f.Why] == nil {
				whys = append(whys, f.Why)
			}
			groups[f.Why] = append(groups[f.Why], "`"+f.Text+"`")
		}
	}
	slices.Sort(whys)
	for _, why := range whys {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(groups[why], ", "), why)
	}
	b.WriteString("\n## Reads\n\n`retry.ReadOnly`: repeated; it changes nothing.\n\n")
	var reads []string
	for _, f := range command.Forms() {
		if f.Safety == command.ReadOnly {
			reads = append(reads, "`"+f.Text+"`")
		}
	}
	b.WriteString(wrapped(reads) + "\n\n## Refusals\n\n" +
		"Replies of the server that mean: this was not executed. They cost nothing of the budget, only the backoff.\n" +
		"`retry.Refusal(err)` returns which one an error is.\n\n" +
		"A script can reply anything by itself, so a refusal of `EVAL`, `EVALSHA` or `FCALL` counts only if it is word for word\n" +
		"the server's and is not among the arguments. (A script that is called by its hash and replies with the very words of a\n" +
		"server cannot be told apart.)\n\n" +
		"| reply | what follows | source |\n|---|---|---|\n")
	for _, r := range refusals {
		fmt.Fprintf(&b, "| `%s ...` | %s | Redis, %s |\n", strings.TrimSpace(r.begins), r.what, r.source)
	}
	b.WriteString("| `" + textAbortedBy + "...` | the transaction is sent again whole if its reason is one of the above, but not in a `Watch` or on a lease: `EXEC` has undone the `WATCH` | Redis, src/multi.c: execCommandAbort |\n")
	b.WriteString("| `EXECABORT Transaction discarded because of previous errors.` | the same, if all those errors are refusals | Redis, src/server.c: createSharedObjects |\n")
	b.WriteString("| `" + textNewClient + " reached` | to a new connection, before its first command: it is tried again, as a failed dial is | Redis, src/networking.c: acceptCommonHandler |\n")
	b.WriteString("\nIn Valkey's sources the files have the same names; `cluster.c` is split into `cluster.c` and\n`cluster_legacy.c` there, and in Redis from 7.4 on.\n")
	return b.String()
}

// wrapped joins the words with commas, in lines of at most 120 characters.
func wrapped(words []string) string {
	var b strings.Builder
	width := 0
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		switch {
		case i == 0:
		case width+1+len(w) > 120:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(w)
		width += len(w)
	}
	return b.String()
}
