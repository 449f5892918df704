package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/serverside"
)

// connected are clients as a server may list them.
func connected(t *testing.T) []serverside.Client {
	t.Helper()
	out, err := serverside.Parse(strings.Join([]string{
		"id=17 addr=10.0.12.7:51234 laddr=10.0.0.1:6379 name=checkout-7d4b9c6f5-x2x8q age=273661 idle=4 flags=N db=0 tot-mem=22400 cmd=get user=checkout lib-name=go-redis(,go1.26.8) lib-ver=9.23.0 tot-cmds=91820",
		"id=923117 addr=[2001:db8:0:12::7]:51299 laddr=[2001:db8::1]:6379 name=search age=95 idle=95 flags=b db=3 tot-mem=1900000 cmd=blpop user=default lib-name= lib-ver= tot-cmds=7",
		"id=18 addr=10.0.12.9:40102 laddr=10.0.0.1:6379 name= age=86400 idle=7300 flags=P db=0 tot-mem=17050 cmd=subscribe user=default lib-name=redis-py lib-ver=5.0.1 tot-cmds=1",
	}, "\n"))
	require.NoError(t, err)
	return out
}

// golden compares text with a file; with UPDATE_GOLDEN it writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestClientsAreReadableAt80ColumnsAndAt120(t *testing.T) {
	all := connected(t)
	for _, width := range []int{80, 120} {
		golden(t, fmt.Sprintf("clients-%d.txt", width), strings.Join(Table(all, Layout{Sort: "age", Width: width}), "\n")+"\n")
		golden(t, fmt.Sprintf("groups-%d.txt", width), strings.Join(GroupTable(Groups(all, "name"), "name", width), "\n")+"\n")
	}
}

func TestTheColumnThatATableIsSortedByIsAlwaysShownWhole(t *testing.T) {
	all := connected(t)
	for _, nodes := range []bool{false, true} {
		for _, key := range SortKeys {
			for width := 80; width <= 200; width++ {
				Sort(all, key, false)
				lines := Table(all, Layout{Nodes: nodes, Sort: key, Width: width})
				for _, col := range columns {
					if col.key != key || key == "node" {
						continue
					}
					require.Contains(t, lines[0], col.Name+"↓", "%s at %d", key, width)
					for i, c := range all {
						require.Contains(t, lines[i+1], col.value(c), "%s at %d", key, width)
					}
				}
				for _, l := range lines {
					require.LessOrEqual(t, ansi.StringWidth(l), width, "%s at %d: %s", key, width, l)
				}
			}
		}
	}
}
