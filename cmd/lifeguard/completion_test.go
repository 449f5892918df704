package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// completers say what a shell offers after a line, one a line. $script is the
// completion, as `lifeguard completion` writes it.
var completers = map[string]func(line string) string{
	// Without the package bash-completion, as on a small machine.
	"bash": func(line string) string {
		return `source "$script"
COMP_WORDS=(` + quoteLast(line) + `); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE='` + line + `'; COMP_POINT=${#COMP_LINE}
complete -p lifeguard >/dev/null || exit 1
f=$(complete -p lifeguard | sed 's/.* -F \([^ ]*\) .*/\1/'); $f; printf '%s\n' "${COMPREPLY[@]}"`
	},
	"zsh": func(line string) string {
		return `autoload -U compinit; compinit -D -u; source "$script"
[[ -n ${_comps[lifeguard]} ]] || exit 1
_describe() { print -rl -- ${(P)2}; }
words=(` + quoteLast(line) + `); ${_comps[lifeguard]}`
	},
	"fish": func(line string) string { return `source "$script"; complete -C '` + line + `'` },
}

// quoteLast makes an empty word of a line's end, if there is none.
func quoteLast(line string) string {
	if strings.HasSuffix(line, " ") {
		return line + "''"
	}
	return line
}

// Bash is always there; the others are tried where they are.
func TestTheShellsCompleteCommandsAndFlags(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // it has none of them
	}
	bin := build(t)
	dir := t.TempDir()
	require.NoError(t, os.Rename(bin, filepath.Join(dir, "lifeguard")))
	tried := 0
	for shell, completer := range completers {
		if _, err := exec.LookPath(shell); err != nil && shell != "bash" {
			t.Logf("%s is not here", shell)
			continue
		}
		tried++
		t.Run(shell, func(t *testing.T) {
			code, text, _ := call(t, "completion", shell)
			require.Equal(t, exitOK, code)
			script := filepath.Join(t.TempDir(), "completion."+shell)
			require.NoError(t, os.WriteFile(script, []byte(text), 0o600))
			for line, want := range map[string][]string{
				"lifeguard ":                     {"doctor", "clients", "top", "bench", "demo", "completion"},
				"lifeguard cl":                   {"clients"},
				"lifeguard clients --max":        {"--max-age", "--max-idle"},
				"lifeguard doctor --pipeline":    {"--pipeline-pool-size"},
				"lifeguard top -p 6380 --ev":     {"--every"},
				"lifeguard completion ":          {"bash", "zsh", "fish", "pwsh"},
				"lifeguard clients --kill --dry": {"--dry-run"},
			} {
				cmd := exec.CommandContext(t.Context(), shell, "-c", completer(line))
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "script="+script)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s: %s", line, out)
				var got []string
				for l := range strings.Lines(string(out)) {
					word, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
					word, _, _ = strings.Cut(word, ":") // zsh's descriptions
					got = append(got, word)
				}
				require.Subset(t, got, want, "%s: %s", line, out)
			}
		})
	}
	require.NotZero(t, tried)
}
