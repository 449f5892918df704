package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// sections of docs/CLI.md by their headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/CLI.md")
	require.NoError(t, err)
	out := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		out[heading] = body
	}
	return out
}

var code = regexp.MustCompile("`([^`]+)`")

// flagRows are the flags of a section's table with their defaults.
func flagRows(section string) map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(section, "\n") {
		if cells := strings.Split(strings.Trim(line, "| "), " | "); strings.HasPrefix(line, "| `-") && len(cells) == 3 {
			out[cells[0]] = cells[2]
		}
	}
	return out
}

// flagCells are the same of the code; "" is a default that the code does not name.
func flagCells(flags []cli.Flag) map[string]string {
	out := map[string]string{}
	for _, f := range flags {
		names := []string{}
		for _, n := range f.Names() {
			names = append(names, "`--"[:2+min(len(n)-1, 1)]+n+"`")
		}
		var value string
		switch f := f.(type) {
		case *cli.DurationFlag:
			if f.Value != 0 {
				value = f.Value.String()
			}
		case *cli.IntFlag:
			if f.Value != 0 {
				value = fmt.Sprint(f.Value)
			}
		case *cli.IntSliceFlag:
			value = strings.Trim(strings.ReplaceAll(fmt.Sprint(f.Value), " ", ","), "[]")
		case *cli.StringFlag:
			value = f.DefaultText + f.Value
		}
		out[strings.Join(names, ", ")] = value
	}
	return out
}

func TestTheDocsNameEveryCommandAndFlagWithItsDefaultAndNothingElse(t *testing.T) {
	doc := sections(t)
	known := map[string][]cli.Flag{"Which server": serverFlags()}
	root := newRoot(&bytes.Buffer{}, &bytes.Buffer{})
	all := map[string]bool{"--help": true}
	for _, c := range root.Commands {
		known[c.Name] = slices.DeleteFunc(slices.Clone(c.Flags), func(f cli.Flag) bool {
			return slices.Contains(commandsOfServers, c.Name) && slices.ContainsFunc(serverFlags(), func(s cli.Flag) bool { return s.Names()[0] == f.Names()[0] })
		})
		for _, f := range c.Flags {
			for _, n := range f.Names() {
				all["--"+n] = true
			}
		}
		require.Contains(t, doc, c.Name)
	}
	tables := 0
	for heading, body := range doc {
		rows := flagRows(body)
		flags, ok := known[heading]
		if !ok {
			require.Empty(t, rows, heading)
			continue
		}
		tables++
		for cell, value := range flagCells(flags) {
			require.Contains(t, rows, cell, "section %s", heading)
			if value != "" {
				require.Equal(t, value, strings.Trim(strings.SplitN(rows[cell], ";", 2)[0], "`"), "default of %s in section %s", cell, heading)
			}
			delete(rows, cell)
		}
		require.Empty(t, rows, "not flags of %s", heading)
		for _, name := range regexp.MustCompile(`[\s`+"`"+`](--[a-z-]+)`).FindAllStringSubmatch(body, -1) {
			require.True(t, all[name[1]], "section %s: there is no %s", heading, name[1])
		}
	}
	require.Equal(t, len(root.Commands)+1, tables)
}

func TestTheExamplesOfTheDocsAreRight(t *testing.T) {
	root := newRoot(&bytes.Buffer{}, &bytes.Buffer{})
	n := 0
	for _, body := range sections(t) {
		for _, line := range strings.Split(body, "\n") {
			_, example, found := strings.Cut(line, "lifeguard ")
			if !strings.HasPrefix(line, "    ") || !found {
				continue
			}
			words := strings.Fields(regexp.MustCompile(`[|>#)].*`).ReplaceAllString(example, ""))
			c := root.Command(words[0])
			if words[0] == "completion" {
				require.Contains(t, []string{"bash", "zsh", "fish", "pwsh"}, words[1])
				continue
			}
			require.NotNil(t, c, line)
			n++
			for _, w := range words[1:] {
				if name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "="); strings.HasPrefix(w, "-") && name != "h" {
					require.True(t, slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }), "%s: there is no %s", line, w)
				}
			}
		}
	}
	require.Greater(t, n, 20)
}

func TestTheDocsSayExitCodesAndNamesOfJSONAsTheyAre(t *testing.T) {
	doc := sections(t)
	for _, c := range []int{exitOK, exitFailed, exitUsage, exitWarnings, exitCritical} {
		require.Contains(t, doc["Exit codes"], fmt.Sprintf("\n| %d | ", c))
	}
	s := redistest.Start(t)
	connect(t, s, "somebody")
	rows := 0
	for _, line := range strings.Split(doc["JSON"], "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) != 2 {
			continue
		}
		rows++
		args, ok := commands[strings.Trim(cells[0], "`")], true
		switch cells[0] {
		case "`doctor`": // of a bare client, of which there is something to say
			args = []string{"doctor"}
		case "`clients --group`":
			args = []string{"clients", "--group", "name"}
		case "`clients --kill`":
			args = []string{"clients", "--kill", "--dry-run", "--name", "some*"}
		case "`demo`": // needs no server
			var out, log bytes.Buffer
			require.Equal(t, exitOK, run(t.Context(), []string{"lifeguard", "demo", "--json", "--for", "3s"}, &out, &log), log.String())
			for _, name := range code.FindAllStringSubmatch(cells[1], -1) {
				require.Contains(t, out.String(), `"`+name[1]+`":`)
			}
			require.True(t, json.Valid(out.Bytes()), out.String())
			continue
		default:
			_, ok = commands[strings.Trim(cells[0], "`")]
		}
		require.True(t, ok, line)
		require.Eventually(t, func() bool { // who came this second is spared
			_, stdout, stderr := ask(t, args, append(port(t, s), "--json")...)
			require.Empty(t, stderr)
			for _, name := range code.FindAllStringSubmatch(cells[1], -1) {
				if name[1] != "CLIENT LIST" && !strings.Contains(stdout, `"`+name[1]+`":`) {
					t.Logf("%s: no %s yet", cells[0], name[1])
					return false
				}
			}
			return true
		}, 10*time.Second, 100*time.Millisecond, line)
	}
	require.Equal(t, len(commands)+3, rows)
}
