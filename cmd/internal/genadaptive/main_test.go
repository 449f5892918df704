package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const checkedIn = "../../../internal/batch/adaptive_gen.go"

func TestTheCheckedInFileIsWhatTheGeneratorWrites(t *testing.T) {
	client, err := universalClient()
	require.NoError(t, err)
	want, err := source(client, classes)
	require.NoError(t, err)
	got, err := os.ReadFile(checkedIn)
	require.NoError(t, err)
	if strings.ReplaceAll(string(got), "\r\n", "\n") != string(want) {
		t.Fatal("internal/batch/adaptive_gen.go is not what the generator writes: run go generate ./internal/batch")
	}
}

func TestAMethodThatIsInNoClassIsAnErrorThatNamesIt(t *testing.T) {
	client, err := universalClient()
	require.NoError(t, err)
	without := slices.Clone(classes)
	without[0].methods = strings.Replace(without[0].methods, "Append ", "", 1)
	_, err = source(client, without)
	require.ErrorContains(t, err, "a method Append that is in no class")
	require.ErrorContains(t, err, "go generate ./internal/batch")

	with := append(slices.Clone(classes), class{"x", direct, "so", "NoSuchMethod Get"})
	_, err = source(client, with)
	require.ErrorContains(t, err, "no method NoSuchMethod any more")
	require.ErrorContains(t, err, "Get is in two classes")

	_, err = source(client, append(slices.Clone(classes), class{name: "y"}))
	require.ErrorContains(t, err, "does not say why")
}

func TestWhatMustNotBeBatchedIsDirect(t *testing.T) {
	client, err := universalClient()
	require.NoError(t, err)
	ways, err := ways(client, classes)
	require.NoError(t, err)
	for _, m := range []string{"BLPop", "BZMPop", "XRead", "XReadGroup", "Subscribe", "PSubscribe", "SSubscribe", "Watch", "Pipeline",
		"TxPipeline", "TxPipelined", "Eval", "EvalSha", "FCall", "Do", "Process", "ClientTracking", "ReadOnly", "Quit", "Shutdown", "GetToBuffer",
		"Scan", "HScan", "Close", "AddHook", "AutoPipeline", "Migrate", "TSRead"} {
		require.Equal(t, direct, ways[m], m)
	}
	for _, m := range []string{"MGet", "Del", "Publish"} {
		require.Equal(t, batchedOnOne, ways[m], m)
	}
	require.Equal(t, batched, ways["Get"])
}
