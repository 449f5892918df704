package main

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionSaysWhatTheProgramWasBuiltFrom(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	goRedis := regexp.MustCompile(`go-redis/v9 (v\S+)`).FindSubmatch(mod)
	require.NotNil(t, goRedis)
	out, err := exec.CommandContext(t.Context(), build(t), "--version").CombinedOutput()
	require.NoError(t, err)
	require.Regexp(t, `^lifeguard version \S+, commit [^,]+, go-redis `+regexp.QuoteMeta(string(goRedis[1]))+`, `+regexp.QuoteMeta(runtime.Version())+`\n$`, string(out))

	require.Equal(t, "v1.2.3, commit 0123abcd with changes, go-redis v9.9.9, go1.99", versionOf(&debug.BuildInfo{GoVersion: "go1.99", Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123abcd"}, {Key: "vcs.modified", Value: "true"}},
		Deps:     []*debug.Module{{Path: "github.com/redis/go-redis/v9", Version: "v9.9.9"}}}))
	require.Equal(t, "devel, commit unknown, go-redis unknown, go1.99", versionOf(&debug.BuildInfo{GoVersion: "go1.99"}))
}
