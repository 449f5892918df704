package main

import (
	"runtime/debug"
	"strings"
)

// version returns what the program was built from: its own version, the commit, and go-redis.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown (built without build information)"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	own := strings.Trim(info.Main.Version, "()")
	if own == "" {
		own = "devel"
	}
	commit, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	redis := "unknown"
	for _, d := range info.Deps {
		if d.Path == "github.com/redis/go-redis/v9" {
			redis = d.Version
			if d.Replace != nil {
				redis += " (replaced)"
			}
		}
	}
	return own + ", commit " + commit + changed + ", go-redis " + redis + ", " + info.GoVersion
}
