package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// told is the report of events, each "action test output".
func told(t *testing.T, goErr error, events ...string) (string, error) {
	t.Helper()
	var stream bytes.Buffer
	for _, e := range events {
		part := append(strings.SplitN(e, " ", 3), "", "")
		one := event{Action: part[0], Package: modulePath + "/retry", Test: part[1], Output: part[2]}
		if part[0] == "build-output" {
			one = event{Action: part[0], ImportPath: "retry [retry.test]", Output: part[2]}
		}
		if part[0] == "fail" && part[1] == "build" {
			one.Test, one.FailedBuild = "", "retry [retry.test]"
		}
		line, err := json.Marshal(one)
		require.NoError(t, err)
		stream.Write(append(line, '\n'))
	}
	var out bytes.Buffer
	r := newReport(&out)
	require.NoError(t, r.read(&stream))
	err := r.end(goErr, false)
	return out.String(), err
}

var errExit = errors.New("exit status 1")

func TestATestWithSubtestsCountsAsThem(t *testing.T) {
	out, err := told(t, nil, "run TestA", "run TestA/x", "run TestA/y/z", "pass TestA/x", "pass TestA/y/z", "pass TestA", "run TestB", "pass TestB", "pass")
	require.NoError(t, err)
	assert.Regexp(t, `\n3 passed, 0 failed, 0 skipped\n$`, out)
}

func TestAFailureIsShownWithItsOutputAndCountsOnce(t *testing.T) {
	out, err := told(t, errExit, "run TestA", "run TestA/x", "output TestA/x === RUN   TestA/x\n", "output TestA/x redis: connection pool: noise\n",
		"output TestA/x     a_test.go:3: it broke\n", "fail TestA/x", "fail TestA", "run TestB", "output TestB fine\n", "pass TestB", "fail")
	require.ErrorIs(t, err, errFailed)
	assert.Contains(t, out, "--- TestA/x, ./retry\n    a_test.go:3: it broke\n")
	assert.Contains(t, out, "\nFAILED: TestA/x in ./retry\n")
	assert.NotContains(t, out, "noise")
	assert.NotContains(t, out, "=== RUN")
	assert.NotContains(t, out, "fine")
	assert.Regexp(t, `\n1 passed, 1 failed, 0 skipped\n$`, out)
}

func TestWhatRanWhenAPackageCrashedHasFailed(t *testing.T) {
	out, err := told(t, errExit, "run TestA", "pass TestA", "run TestB", "output TestB panic: oh\n", "fail")
	require.ErrorIs(t, err, errFailed)
	assert.Contains(t, out, "--- TestB, ./retry\npanic: oh\n(did not end)\n")
	assert.Regexp(t, `\n1 passed, 1 failed, 0 skipped\n$`, out)
}

func TestAPackageThatDoesNotCompileOrLeavesAGoroutineHasFailed(t *testing.T) {
	out, err := told(t, errExit, "build-output x a.go:1: undefined: b\n", "fail build")
	require.ErrorIs(t, err, errFailed)
	assert.Contains(t, out, "undefined: b")
	assert.Contains(t, out, "FAILED: ./retry\n0 passed, 1 failed, 0 skipped\n")

	out, err = told(t, errExit, "run TestA", "pass TestA", "output  after all tests have passed: found unexpected goroutines\n", "fail")
	require.ErrorIs(t, err, errFailed)
	assert.Contains(t, out, "found unexpected goroutines")
	assert.Contains(t, out, "FAILED: ./retry\n1 passed, 1 failed, 0 skipped\n")
}

func TestARunOfNothingAndAFailureOfGoItselfAreFailures(t *testing.T) {
	_, err := told(t, nil, "pass")
	require.ErrorIs(t, err, errFailed)
	out, err := told(t, errExit, "run TestA", "pass TestA", "pass")
	require.ErrorIs(t, err, errFailed)
	assert.Contains(t, out, "FAILED: go test: exit status 1")
}
