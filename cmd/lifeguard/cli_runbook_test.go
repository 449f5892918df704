package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"
)

func TestTheCommandsOfTheRunbookExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/RUNBOOK.md")
	require.NoError(t, err)
	root := newRoot(&bytes.Buffer{}, &bytes.Buffer{})
	n := 0
	for _, m := range regexp.MustCompile("`lifeguard ([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		words := strings.Fields(m[1])
		c := root.Command(words[0])
		require.NotNil(t, c, m[0])
		for _, w := range words[1:] {
			if name := strings.TrimLeft(w, "-"); name != w {
				require.True(t, slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }), m[0])
			}
		}
		n++
	}
	require.Greater(t, n, 3)
}
