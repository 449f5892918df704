package lifeguard_test

import (
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// pages are the texts for readers, by their file names.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	all := map[string]string{}
	for _, name := range append(names, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", ".ci/README.md") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		all[name] = string(text)
	}
	require.Greater(t, len(all), 5)
	return all
}

// anchor is what a heading is linked by.
func anchor(heading string) string {
	heading = strings.ToLower(strings.TrimSpace(heading))
	heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}

func TestEveryLinkOfTheDocsLeadsSomewhere(t *testing.T) {
	for name, text := range pages(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, part, _ := strings.Cut(m[1], "#")
			file := name
			if path != "" {
				file = filepath.Join(filepath.Dir(name), path)
			}
			there, err := os.ReadFile(file)
			if err != nil {
				_, err = os.Stat(file) // a folder
			}
			require.NoError(t, err, "%s links to %s", name, m[1])
			if part == "" {
				continue
			}
			var anchors []string
			for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(there), -1) {
				anchors = append(anchors, anchor(h[1]))
			}
			require.Contains(t, anchors, part, "%s links to %s", name, m[1])
		}
	}
}

// code is the source of the library, tests left out.
func code(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range append([]string{"internal/*"}, libraries...) { // code moves, its texts stay
		names, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			b.Write(text)
		}
	}
	return b.String()
}

var libraries = []string{"managed", "hooks", "retry", "monitor", "monitor/dashboard", "monitor/fleet", "monitor/server", "serverside"}

func TestTheTextsOfTheRunbookAreThoseOfTheCode(t *testing.T) {
	source := code(t)
	n := 0
	for _, m := range regexp.MustCompile("`(lifeguard(?:/[a-z]+)?: [^`]+)`").FindAllStringSubmatch(pages(t)["docs/RUNBOOK.md"], -1) {
		var parts []string
		for part := range strings.SplitSeq(strings.TrimSuffix(m[1], " ..."), "...") {
			parts = append(parts, regexp.QuoteMeta(part))
		}
		require.Regexp(t, strings.Join(parts, `%[a-z]`), source, "%s is not what the code says", m[1])
		n++
	}
	require.Greater(t, n, 5) // the texts of errors are compared with what real situations give
}

func TestTheReasonsOfTheRunbookAreAllThereAre(t *testing.T) {
	var want, got []string
	for _, f := range source(t, "hooks") {
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && v.Type != nil && len(v.Values) == 1 {
				if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Reason" {
					want = append(want, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
				}
			}
			return true
		})
	}
	_, section, ok := strings.Cut(pages(t)["docs/RUNBOOK.md"], "## Connections come and go")
	require.True(t, ok)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?m)^\\| (`[^|]*)\\|").FindAllStringSubmatch(section, -1) {
		for _, r := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[1], -1) {
			got = append(got, r[1])
		}
	}
	for _, r := range want {
		require.Contains(t, got, r)
	}
	for _, r := range got {
		require.Contains(t, want, r)
	}
}

// Names like managed.New, and retry.Policy.Budget, in the text must exist.
func TestTheNamesInTheDocsExist(t *testing.T) {
	known := map[string]map[string]bool{}
	for _, dir := range append([]string{"monitor/prom", "monitor/otel"}, libraries...) {
		names := map[string]bool{}
		for _, f := range source(t, dir) {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					names[n.Name.Name] = true
				case *ast.TypeSpec:
					names[n.Name.Name] = true
				case *ast.ValueSpec:
					for _, id := range n.Names {
						names[id.Name] = true
					}
				case *ast.Field:
					for _, id := range n.Names {
						names[id.Name] = true
					}
				}
				return true
			})
		}
		known[filepath.Base(dir)] = names
	}
	n := 0
	for name, text := range pages(t) {
		for _, m := range regexp.MustCompile(`\b(managed|hooks|retry|monitor|dashboard|fleet|serverside|prom|otel)\.([A-Z]\w*)(?:\.([A-Z]\w*))?`).FindAllStringSubmatch(text, -1) {
			for _, id := range m[2:] {
				require.True(t, id == "" || known[m[1]][id], "%s says %s", name, m[0])
			}
			n++
		}
	}
	require.Greater(t, n, 50)
}

// What is compared with others must be what the measurements say.
func TestTheFiguresOfTheComparisonAreThoseOfTheTables(t *testing.T) {
	all := pages(t)
	tables := all["docs/RELIABILITY.md"] + all["docs/PERFORMANCE.md"]
	n := 0
	for _, figure := range regexp.MustCompile(`\b(\d{3,}|\d\.\d+)\b`).FindAllString(all["docs/COMPARISON.md"], -1) {
		require.Regexp(t, `\| [^|\n]*\b`+regexp.QuoteMeta(figure)+`\b`, tables)
		n++
	}
	require.Greater(t, n, 5)
}

func TestEveryTestThatTheInternalsNameExists(t *testing.T) {
	names := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return err
	}))
	n := 0
	internals := pages(t)["docs/INTERNALS.md"]
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(internals, -1) {
		require.True(t, names[m[1]], "docs/INTERNALS.md names %s", m[1])
		n++
	}
	require.Greater(t, n, 40)
	require.LessOrEqual(t, strings.Count(internals, "\n"), 250)
}

func TestEveryPageBeginsWithWhomItIsFor(t *testing.T) {
	for name, text := range pages(t) {
		if strings.HasPrefix(name, "docs/") {
			text = regexp.MustCompile(`^<!--.*-->\n\n`).ReplaceAllString(text, "")
			require.Regexp(t, `^# [^\n]+\n\nFor [a-z]`, text, name)
		}
	}
}

func TestTheTableOfContentsHasEveryPage(t *testing.T) {
	contents := pages(t)["docs/README.md"]
	for name := range pages(t) {
		if file, ok := strings.CutPrefix(name, "docs/"); ok && file != "README.md" {
			require.Contains(t, contents, "]("+file+")")
		}
	}
}

// Tables, code and pictures cannot be wrapped.
func TestNoLineOfProseIsLongerThan120Characters(t *testing.T) {
	for name, text := range pages(t) {
		code := false
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			if code || strings.HasPrefix(strings.TrimLeft(line, " "), "|") || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "![") {
				continue
			}
			require.NotContains(t, line, "|---", "%s: a table that was wrapped", name)
			require.LessOrEqual(t, utf8.RuneCountInString(line), 120, "%s: %s", name, line)
		}
	}
}
