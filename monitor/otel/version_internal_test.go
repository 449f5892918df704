package otel

import (
	"runtime/debug"
	"testing"
)

func TestTheScopesVersionIsThatOfTheModuleInTheProgram(t *testing.T) {
	module := func(path, version string) *debug.Module { return &debug.Module{Path: path, Version: version} }
	other := module("github.com/lifeguard-redis/lifeguard", "v1.2.3")
	for want, info := range map[string]*debug.BuildInfo{
		"1.4.0": {Main: *module("example.com/user", "(devel)"), Deps: []*debug.Module{other, module(scopeName, "v1.4.0")}},
		"1.5.0": {Main: *module(scopeName, "v1.5.0"), Deps: []*debug.Module{other}},
		"":      {Main: *module(scopeName, "(devel)"), Deps: []*debug.Module{other}},
	} {
		if got := versionIn(info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
