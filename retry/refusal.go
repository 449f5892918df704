package retry

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// refusal is a reply of the server that means: this was not executed.
type refusal struct {
	begins string   // how the reply begins
	words  []string // whole replies, without a "." at the end; see isServersOwn
	reason Reason
	kind   kind   // notReady: wait for the node; notExecuted: try again a few times; final: do not
	source string // file in the sources of Redis; Valkey has the same file, or the one in brackets
	what   string // for docs/COMMANDS.md
}

// refusals is the only list of them. The texts are those of Redis 7.0, 8.0 and 8.6 and of Valkey
// 8.1, some of which say Valkey instead of Redis.
var refusals = []refusal{
	{begins: "LOADING ", reason: ReasonLoading, kind: notReady,
		words:  []string{"LOADING Redis is loading the dataset in memory", "LOADING Valkey is loading the dataset in memory"},
		source: "src/server.c: createSharedObjects", what: "waited for"},
	{begins: "MASTERDOWN ", reason: ReasonMasterDown, kind: notReady,
		words: []string{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'",
			"MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script"},
		source: "src/server.c: createSharedObjects; src/script.c: scriptPrepareForRun", what: "waited for"},
	{begins: "CLUSTERDOWN ", reason: ReasonClusterDown, kind: notReady,
		words: []string{"CLUSTERDOWN Hash slot not served", "CLUSTERDOWN The cluster is down",
			"CLUSTERDOWN The cluster is down and only accepts read commands"},
		source: "src/cluster.c: clusterRedirectClient", what: "waited for"},
	{begins: "READONLY ", reason: ReasonReadOnly, kind: notExecuted,
		words: []string{"READONLY You can't write against a read only replica",
			"READONLY Can not run script with write flag on readonly replica"},
		source: "src/server.c: createSharedObjects; src/script.c: scriptPrepareForRun", what: "sent again"},
	{begins: "TRYAGAIN ", reason: ReasonTryAgain, kind: notExecuted,
		words:  []string{"TRYAGAIN Multiple keys request during rehashing of slot"},
		source: "src/cluster.c: clusterRedirectClient", what: "sent again"},
	{begins: "MOVED ", reason: ReasonMoved, kind: notExecuted,
		source: "src/cluster.c: clusterRedirectClient", what: "by a cluster client: followed by go-redis; what it gives up on is sent again"},
	{begins: "ASK ", reason: ReasonMoved, kind: notExecuted,
		source: "src/cluster.c: clusterRedirectClient", what: "as MOVED"},
	{begins: "NOREPLICAS ", reason: ReasonNoReplicas, kind: notExecuted,
		words:  []string{"NOREPLICAS Not enough good replicas to write"},
		source: "src/server.c: createSharedObjects", what: "sent again"},
	{begins: "BUSY ", reason: ReasonBusy, kind: notExecuted,
		words: []string{"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE",
			"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE",
			"BUSY Redis is busy running a module command",
			"BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE",
			"BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE",
			"BUSY Valkey is busy running a module command"},
		source: "src/server.c: createSharedObjects, processCommand", what: "sent again"},
	{begins: "UNBLOCKED force unblock", reason: ReasonUnblocked, kind: notExecuted,
		source: "src/blocked.c: disconnectAllBlockedClients (disconnectOrRedirectAllBlockedClients)", what: "a blocking command when its server becomes a replica: sent again, except XREAD with $"},
	{begins: "UNBLOCKED ", kind: final,
		source: "src/networking.c: clientCommand; src/blocked.c", what: "somebody wanted it to end (CLIENT UNBLOCK id ERROR), or its stream is gone: the answer"},
}

const (
	textExecAbort = "EXECABORT "
	textAborted   = "EXECABORT Transaction discarded because of previous errors."
	textAbortedBy = "EXECABORT Transaction discarded because of: "
	textNewClient = "ERR max number of clients"
)

// refusalOf finds the refusal that a reply is; nil if it is none. A transaction
// that was aborted for a refusal is one, too.
func refusalOf(s string) *refusal {
	s = strings.TrimPrefix(s, textAbortedBy)
	for i := range refusals {
		if r := &refusals[i]; strings.HasPrefix(s, r.begins) {
			return r
		}
	}
	if strings.Contains(s, textOldReadOnly) {
		return &refusals[3]
	}
	return nil
}

// textOldReadOnly is in what Redis 6 says of a script:
// "ERR Error running script (call to f_<sha>): @user_script:1: -READONLY ...".
const textOldReadOnly = ": -READONLY You can't write against a read only replica"

// Refusal returns why, according to err, the server did not execute the command: the reason that a
// retry for it has. It is "" for other replies and other errors. A script can return a reply of its
// own that looks like a refusal.
func Refusal(err error) Reason {
	if err = attempt.Reveal(err); err == nil || err == redis.Nil {
		return ""
	}
	var noRoom *refusedError
	if errors.As(err, &noRoom) {
		return ReasonMaxClients
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		return ""
	}
	if r := refusalOf(answer.Error()); r != nil {
		return r.reason
	}
	return ""
}

// isServersOwn reports whether a refusal in reply to a script comes from the server itself: a
// script can return an error of any text after it has written. The text must match one of the
// server's exactly, and must not occur in the script or its arguments.
//
// The server says READONLY, NOREPLICAS and the like to a call in the middle of a
// script as well; then no call before it can have written.
func isServersOwn(s string, a command.Args) bool {
	s, _, _ = strings.Cut(s, " script: ") // "... script: <sha>, on @user_script:1."
	old := strings.HasPrefix(s, "ERR Error running script") && strings.Contains(s, textOldReadOnly)
	s = strings.TrimSuffix(strings.TrimSpace(s), ".")
	r := refusalOf(s)
	if r == nil || !old && !r.isWord(s) {
		return false
	}
	code := strings.TrimSpace(r.begins)
	for i := 1; i < len(a); i++ {
		if t, ok := a.Text(i); !ok || strings.Contains(t, code) {
			return false
		}
	}
	return true
}

func (r *refusal) isWord(s string) bool {
	if r.reason == ReasonMoved { // MOVED 3999 127.0.0.1:6381
		f := strings.Split(s, " ")
		return len(f) == 3 && digits(f[1]) && strings.Contains(f[2], ":")
	}
	for _, w := range r.words {
		if s == w {
			return true
		}
	}
	return false
}

// misleads reports whether go-redis's cluster client would take a script's own reply for one of the
// server.
func misleads(s string) bool { return refusalOf(s) != nil || strings.HasPrefix(s, textNewClient) }

// digits reports whether s is a number without a sign.
func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
