package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

const modulePath = "github.com/lifeguard-redis/lifeguard"

// maxLines is how much is shown of a failure: half of it from the beginning, half
// from the end.
const maxLines = 100

// event is a line of go test -json (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of what was built
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// report counts what go test -json says, and shows what failed. A test with
// subtests counts as its subtests.
type report struct {
	w                       io.Writer
	passed, failed, skipped int
	packages                map[string]*pkg
	builds                  map[string][]string
	reasons                 []string // of skips, in their order
	skips                   map[string][]string
	failures                []string
}

type pkg struct {
	tests                   map[string]*test
	output                  []string
	passed, failed, skipped int
}

type test struct {
	output          []string
	ended           bool
	parent, subFail bool
}

func newReport(w io.Writer) *report {
	return &report{w: w, packages: map[string]*pkg{}, builds: map[string][]string{}, skips: map[string][]string{}}
}

func (r *report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &e) == nil {
				r.add(e)
			} else {
				r.w.Write(line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) add(e event) {
	switch {
	case e.Action == "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case e.Package == "":
	case e.Test == "":
		r.addPackage(e)
	default:
		r.addTest(e)
	}
}

func (r *report) pkg(name string) *pkg {
	p := r.packages[name]
	if p == nil {
		p = &pkg{tests: map[string]*test{}}
		r.packages[name] = p
	}
	return p
}

func (r *report) addTest(e event) {
	p := r.pkg(e.Package)
	t := p.tests[e.Test]
	if t == nil {
		t = &test{}
		p.tests[e.Test] = t
		for _, up := range p.above(e.Test) {
			up.parent = true
		}
	}
	switch e.Action {
	case "output":
		if !noise(e.Output) {
			t.output = append(t.output, e.Output)
		}
	case "pass":
		t.ended = true
		if !t.parent {
			p.passed++
		}
		t.output = nil
	case "skip":
		t.ended = true
		p.skipped++
		r.skip(e.Package, e.Test, t.output)
		t.output = nil
	case "fail":
		t.ended = true
		r.fail(p, e.Package, e.Test, t)
	}
}

func (r *report) fail(p *pkg, in, name string, t *test) {
	for _, up := range p.above(name) {
		up.subFail = true
	}
	if !t.subFail {
		p.failed++
		r.failures = append(r.failures, name+" in "+short(in))
	}
	fmt.Fprintf(r.w, "--- %s, %s\n%s", name, short(in), shown(t.output))
}

// above are the tests that a subtest belongs to.
func (p *pkg) above(name string) (tests []*test) {
	for i, c := range name {
		if c == '/' && p.tests[name[:i]] != nil {
			tests = append(tests, p.tests[name[:i]])
		}
	}
	return tests
}

func (r *report) addPackage(e event) {
	p := r.pkg(e.Package)
	switch e.Action {
	case "output":
		if !noise(e.Output) {
			p.output = append(p.output, e.Output)
		}
	case "pass", "fail":
		r.endPackage(p, e)
	}
}

func (r *report) endPackage(p *pkg, e event) {
	if e.Action == "fail" {
		r.failPackage(p, e)
	}
	result := "ok  "
	if p.failed > 0 {
		result = "FAIL"
	}
	line := fmt.Sprintf("%s %-40s %7.1f s  %d passed", result, short(e.Package), e.Elapsed, p.passed)
	if p.failed > 0 {
		line += fmt.Sprintf(", %d failed", p.failed)
	}
	if p.skipped > 0 {
		line += fmt.Sprintf(", %d skipped", p.skipped)
	}
	fmt.Fprintln(r.w, line)
	r.passed, r.failed, r.skipped = r.passed+p.passed, r.failed+p.failed, r.skipped+p.skipped
	p.tests, p.output = nil, nil
}

// failPackage counts the tests that a crash or the time limit ended; and where no
// test failed (it does not compile, or a goroutine was left), the package as one.
func (r *report) failPackage(p *pkg, e event) {
	var running []string
	for name, t := range p.tests {
		if !t.ended && !t.parent {
			running = append(running, name)
		}
	}
	slices.Sort(running)
	for _, name := range running {
		p.tests[name].output = append(p.tests[name].output, "(did not end)\n")
		r.fail(p, e.Package, name, p.tests[name])
	}
	output := p.output
	if build := r.builds[e.FailedBuild]; len(build) > 0 {
		output = append(slices.Clone(build), output...)
	}
	if p.failed == 0 {
		p.failed = 1
		r.failures = append(r.failures, short(e.Package))
	}
	fmt.Fprintf(r.w, "--- %s\n%s", short(e.Package), shown(output))
}

func shown(lines []string) string {
	if over := len(lines) - maxLines; over > 0 {
		lines = slices.Concat(lines[:maxLines/2], []string{fmt.Sprintf("(%d lines)\n", over)}, lines[maxLines/2+over:])
	}
	return strings.Join(lines, "")
}

var place = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

func (r *report) skip(in, name string, output []string) {
	why := "no reason given"
	for _, line := range output {
		if place.MatchString(line) {
			why = strings.TrimSpace(place.ReplaceAllString(line, ""))
		}
	}
	if r.skips[why] == nil {
		r.reasons = append(r.reasons, why)
	}
	r.skips[why] = append(r.skips[why], name+" in "+short(in))
}

// end reports the totals. err is the result of go test.
func (r *report) end(err error, allowSkips bool) error {
	fmt.Fprintln(r.w)
	for _, why := range r.reasons {
		tests := r.skips[why]
		more := ""
		if len(tests) > 5 {
			more = fmt.Sprintf(", and %d more", len(tests)-5)
			tests = tests[:5]
		}
		fmt.Fprintf(r.w, "SKIPPED: %s: %s%s\n", why, strings.Join(tests, ", "), more)
	}
	for _, name := range r.failures {
		fmt.Fprintln(r.w, "FAILED:", name)
	}
	switch {
	case r.failed > 0:
	case err != nil:
		fmt.Fprintln(r.w, "FAILED: go test:", err)
	case r.passed+r.skipped == 0:
		fmt.Fprintln(r.w, "FAILED: no test has run")
		err = errFailed
	case r.skipped > 0 && !allowSkips:
		fmt.Fprintln(r.w, "FAILED: a skipped test says nothing about the code. Give it what it needs, or use --allow-skips")
		err = errFailed
	}
	fmt.Fprintf(r.w, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if err != nil || r.failed > 0 {
		return errFailed
	}
	return nil
}

// noise is what says nothing about a failure: the frames of -v, and what go-redis
// logs when a server is unreachable, which it is in many tests.
func noise(line string) bool {
	for _, prefix := range []string{"=== RUN ", "=== PAUSE ", "=== CONT ", "=== NAME ", "redis: "} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// short is a package as go test takes it in the root of the repository.
func short(path string) string {
	if path == modulePath {
		return "."
	}
	return "." + strings.TrimPrefix(path, modulePath)
}
