package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func misuse(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// onUsageError rewords the library's errors, which are written for Go programmers.
func onUsageError(_ context.Context, c *cli.Command, err error, _ bool) error {
	return usageError{inWords(c, err)}
}

// Texts of the library; a test pins them.
var (
	invalidValue = regexp.MustCompile(`^invalid value "(.*)" for flag -(\S+): (?s:.*)$`)
	notDefined   = regexp.MustCompile(`^flag provided but not defined: -+(.*)$`)
	noArgument   = regexp.MustCompile(`^flag needs an argument: -*(.*)$`)
)

func inWords(c *cli.Command, err error) error {
	text := err.Error()
	if m := invalidValue.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s: '%s' %s", dashed(m[2]), m[1], wants(c, m[2]))
	}
	if m := notDefined.FindStringSubmatch(text); m != nil {
		name, _, _ := strings.Cut(m[1], "=")
		return fmt.Errorf("no flag %s%s", dashed(name), didYouMean(cli.SuggestFlag(c.Flags, name, false), name))
	}
	if m := noArgument.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s: its value is missing", dashed(m[1]))
	}
	return err
}

// wants says what a flag's value must be.
func wants(c *cli.Command, name string) string {
	i := slices.IndexFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i >= 0 {
		switch c.Flags[i].(type) {
		case *cli.DurationFlag:
			return "is not a time; want one like 90s, 30m or 1h30m"
		case *cli.IntFlag, *cli.Int64Flag, *cli.Float64Flag:
			return "is not a number"
		case *cli.IntSliceFlag:
			return "is not a list of numbers; want one like 1,16,256"
		case *cli.BoolFlag:
			return "is neither true nor false"
		}
	}
	return "cannot be used"
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// didYouMean suggests something similar; the library always finds something.
func didYouMean(suggestion, instead string) string {
	if bare := strings.TrimLeft(suggestion, "-"); suggestion == "" || !similar(bare, instead) {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", suggestion)
}

// similar reports whether a few edits turn one word into the other: at most one for every two
// letters.
func similar(a, b string) bool {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edit := diagonal
			if a[i] != b[j] {
				edit++
			}
			diagonal = row[j+1]
			row[j+1] = min(edit, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]*2 <= max(len(a), len(b))
}
