package command

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Form is a command, or a way to call one, as docs/COMMANDS.md shows it.
type Form struct {
	Text   string
	Why    string // why it has its class, or ""
	Proof  string // the replies that prove a first execution
	Safety Safety
}

// Forms returns all known commands by name.
func Forms() []Form {
	var forms []Form
	for i := 1; i < len(all.rows); i++ {
		r := &all.rows[i]
		if r.is&asked == 0 && r.decision == nil {
			continue
		}
		if r.decision == nil || r.decision.rule == nil {
			forms = append(forms, r.form(strings.ToUpper(strings.ReplaceAll(r.name, "|", " "))))
			continue
		}
		for line := range strings.Lines(r.decision.forms) {
			line = strings.TrimSpace(line)
			if NameOf(cmdOf(line)) == r.name {
				forms = append(forms, r.form(line))
			}
		}
	}
	slices.SortFunc(forms, func(a, b Form) int { return strings.Compare(a.Text, b.Text) })
	return forms
}

func (r *row) form(text string) Form {
	c, d := ClassOf(cmdOf(text)), r.decision
	f := Form{Text: text, Safety: c.Safety, Proof: c.Proof.String()}
	switch {
	case f.Safety == Unsafe && r.is&bound != 0:
		f.Why = whyBound
	case f.Safety == Unsafe && d != nil && d.why == "", f.Safety == Unsafe && d != nil && d.why == whyCount:
		f.Why = whyDepends
	case d != nil && f.Safety != ReadOnly:
		f.Why = d.why
	}
	if f.Safety == IdempotentWrite && strings.Contains(f.Text, " XX ") {
		f.Why = ""
	}
	return f
}

// String names the replies that prove a first execution.
func (p Proof) String() string {
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

// cmdOf makes a command from words.
func cmdOf(line string) redis.Cmder {
	words := strings.Fields(line)
	a := make([]any, len(words))
	for i, w := range words {
		a[i] = w
	}
	return redis.NewCmd(context.Background(), a...)
}

// Known reports whether a command has a class of its own rather than the one of unknown commands: a
// read according to its flags, or anything with a decision.
func Known(name string) bool {
	r := lookup(name)
	if r == nil {
		return strings.HasPrefix(name, "client|")
	}
	return r.decision != nil || r.is&bound != 0 || r.isRead()
}

// Names returns the names of all commands that have a class.
func Names() []string {
	var names []string
	for i := 1; i < len(all.rows); i++ {
		if r := &all.rows[i]; r.is&asked != 0 || r.decision != nil {
			names = append(names, r.name)
		}
	}
	return names
}
