package lifeguard_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/retry"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// source parses the files of a package that are no tests.
func source(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	require.NotEmpty(t, files, dir)
	return files
}

// optionsOf are the exported functions of a package that return its options.
func optionsOf(t *testing.T, dir, option string) (names []string) {
	t.Helper()
	for _, f := range source(t, dir) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil {
				continue
			}
			if r, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && r.Name == option {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

// fieldsOf are the exported fields of a struct.
func fieldsOf(t *testing.T, dir, name string) (names []string) {
	t.Helper()
	for _, f := range source(t, dir) {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != name {
				return true
			}
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				for _, id := range field.Names {
					if id.IsExported() {
						names = append(names, id.Name)
					}
				}
			}
			return false
		})
	}
	return names
}

// table is a table of the options page: its rows by their first cell.
type table struct {
	kind, dir, name string
	rows            map[string][]string
}

func optionTables(t *testing.T) (tables []table) {
	t.Helper()
	text, err := os.ReadFile("docs/OPTIONS.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?s)<!-- (options|fields): (\S+) (\S+) -->\n(.*?)<!-- end -->`).FindAllStringSubmatch(string(text), -1) {
		one := table{kind: m[1], dir: m[2], name: m[3], rows: map[string][]string{}}
		width := 0
		for line := range strings.Lines(m[4]) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			if width == 0 {
				width = len(cells)
			}
			require.Len(t, cells, width, "cells of %s", line)
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			if name, ok := strings.CutPrefix(cells[0], "`"); ok {
				name = strings.TrimSuffix(name, "`")
				require.NotContains(t, one.rows, name, "twice")
				one.rows[name] = cells
			}
		}
		tables = append(tables, one)
	}
	require.NotEmpty(t, tables)
	return tables
}

func TestThePageOfOptionsHasEveryOptionAndNoOther(t *testing.T) {
	for _, tab := range optionTables(t) {
		want := optionsOf
		if tab.kind == "fields" {
			want = fieldsOf
		}
		var got []string
		for name := range tab.rows {
			got = append(got, name)
		}
		require.ElementsMatch(t, want(t, tab.dir, tab.name), got, "%s.%s", tab.dir, tab.name)
	}
}

// Whatever is an option somewhere must have a table.
func TestEveryTypeOfOptionsHasATable(t *testing.T) {
	var have []string
	for _, tab := range optionTables(t) {
		have = append(have, tab.dir+" "+tab.name)
	}
	for _, dir := range []string{"managed", "retry", "monitor", "monitor/dashboard", "monitor/fleet", "monitor/server", "monitor/prom", "monitor/otel", "serverside"} {
		for _, f := range source(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok || !spec.Name.IsExported() {
					return true
				}
				name := spec.Name.Name
				if strings.HasSuffix(name, "Option") || strings.HasSuffix(name, "Policy") || name == "Threshold" {
					require.Contains(t, have, dir+" "+name)
				}
				return true
			})
		}
	}
}

func TestEveryWithOfManagedIsOnThePage(t *testing.T) {
	text, err := os.ReadFile("docs/OPTIONS.md")
	require.NoError(t, err)
	for _, f := range source(t, "managed") {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "With") {
				require.Regexp(t, "\n\\| `(managed\\.)?"+fn.Name.Name+"` \\|", string(text))
			}
		}
	}
}

// short writes a time as the page does: "500 ms", "30 s", "1 m".
func short(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d%u.of == 0 {
			return fmt.Sprintf("%d %s", d/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

func TestTheDefaultsOfThePageAreThoseOfTheCode(t *testing.T) {
	rows := map[string][]string{}
	for _, tab := range optionTables(t) {
		for name, cells := range tab.rows {
			rows[tab.dir+" "+tab.name+" "+name] = cells
		}
	}
	policy := retry.Default()
	for row, want := range map[string]string{
		"retry Policy MaxAttempts":              fmt.Sprint(policy.MaxAttempts),
		"retry Policy Budget":                   fmt.Sprintf("%v of calls, and %v a second", retry.DefaultBudgetRatio, retry.DefaultBudgetReserve),
		"retry Policy NoRepeatWrites":           fmt.Sprint(policy.NoRepeatWrites),
		"retry Policy IgnoreCounts":             fmt.Sprint(policy.IgnoreCounts),
		"retry BreakerPolicy After":             short(policy.Breaker.After),
		"retry BreakerPolicy Probe":             short(policy.Breaker.Probe),
		"monitor Option WithInterval":           short(monitor.DefaultInterval),
		"monitor Threshold Hysteresis":          fmt.Sprint(monitor.DefaultHysteresis),
		"monitor Threshold CoolDown":            short(monitor.DefaultCoolDown),
		"monitor/dashboard Option WithInterval": short(dashboard.DefaultInterval),
		"monitor/fleet Option WithName":         "`" + fleet.DefaultName + "`",
		"monitor/fleet Option WithInterval":     short(fleet.DefaultInterval),
		"monitor/fleet Option WithTimeout":      short(fleet.DefaultTimeout),
		"monitor/fleet Option WithRetention":    short(fleet.DefaultRetention) + ", or twice `WithLostAfter` if longer",
		"serverside Policy PerSecond":           fmt.Sprint(serverside.DefaultPerSecond),
		"serverside Option WithLock":            "`" + serverside.DefaultLockKey + "`, " + short(serverside.DefaultLockTTL),
		"managed Option WithLeakThreshold":      short(defaultOf(t, "leakThreshold")),
		"managed Option WithValidateAfter":      short(defaultOf(t, "validateAfter")),
	} {
		require.Contains(t, rows, row)
		require.Contains(t, rows[row], want, row) // one of its cells
	}
}

// defaultOf reads a time from the defaults of package managed, which are not
// exported.
func defaultOf(t *testing.T, field string) time.Duration {
	t.Helper()
	text, err := os.ReadFile("managed/options.go")
	require.NoError(t, err)
	m := regexp.MustCompile(field + `: +(?:(\d+) \* )?time\.(Minute|Second),`).FindStringSubmatch(string(text))
	require.NotNil(t, m, field)
	n, unit := 1, map[string]time.Duration{"Minute": time.Minute, "Second": time.Second}[m[2]]
	if m[1] != "" {
		_, err = fmt.Sscan(m[1], &n)
		require.NoError(t, err)
	}
	return time.Duration(n) * unit
}
