//go:build unix

package sim

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Failure is an invariant that does not hold. The invariants, by Class:
//
//	lost            success means that it was executed
//	twice           what may not be repeated is executed once at most
//	false-reply     success means the reply of the first execution
//	false-error     an error that is no unknown outcome means that it was never executed
//	unknown-unsent  an unknown outcome means that a byte or more of the call was written
//	false-applied   an unknown outcome that says "applied" means that it was executed
//	killed-healthy  no connection that owes a reply is ended by maintenance while it is whole and its server makes progress,
//	                unless another one to its server was harmed that had been heard from no earlier, and was found dead
//	ended-idle      no idle one is ended as suspected, or for its heartbeat, then, unless another one to its server was harmed or the clock jumped
//	late            nobody waits longer than its ctx and 50 ms (plus two timeouts where go-redis does not look at the ctx)
//	repeated        on a lease nothing is written twice
//	own-error       an error of the user's own comes back as it is
//	moved-again     a MOVED seen by a lease renews the slot map before the next Acquire
//	gave-up         no caller with time left gets a refusal that is soon over, nor MOVED or ASK
//	unnamed-ctx     the error of a command whose ctx ended while it was in flight is ctx's, too
//	stays-broken    seconds after the last fault no call fails by the network or a refusal
//	numbers         when all is quiet, PoolStats, Conns and Leases agree with the open connections
//	left-open       no connection is open after Close
//	goroutine-left  no goroutine runs after Close
//	never-returns   every call returns
//	stands-still    nobody waits for the network while holding a mutex, or goes round in circles
type Failure struct {
	Class string
	Kind  string // at what, for counting
	Token string // the request it was noticed at, if any
	Link  int    // the link, if any
	Text  string
}

func (f Failure) name() string { return f.Class + " of " + f.Kind }

func (r *run) fail(class, kind, token string, link int, text string, args ...any) {
	f := Failure{class, kind, token, link, fmt.Sprintf(text, args...)}
	r.Trace.add(token, link, "FAILS %s: %s", class, f.Text)
	r.Trace.mu.Lock()
	defer r.Trace.mu.Unlock()
	r.Failures = append(r.Failures, f)
}

const patience = 50 * ms

// checkResults compares what callers were told with the truth.
func (r *run) checkResults() {
	written := map[string]bool{} // by call: what is written together is not told apart
	for token, e := range r.Ledger.of {
		if e.Writes > 0 && strings.Contains(token, "/") { // and not only its WATCH
			written[callOf(token)] = true
		}
	}
	for _, res := range r.Results {
		r.checkTime(res)
		r.checkRecovery(res)
		r.checkRefusal(res)
		r.checkOwn(res)
		if res.Token == "" {
			continue // a read
		}
		e := r.Ledger.entry(res.Token)
		unknown := errors.Is(res.Err, retry.ErrUnknownOutcome)
		if res.Call.Kind == "lease" { // there the errors are as they came
			unknown = res.Err != nil && retry.OutcomeOf(res.Err) == retry.Unknown
		}
		name, reply, err := fmt.Sprint(res.Cmd[0]), res.Reply, res.Err
		var said redis.Error
		if len(e.Runs) > 0 && !unknown && errors.As(err, &said) && said.Error() == e.Runs[0] {
			reply, err = e.Runs[0], nil // an error reply of its own
		}
		if res.Late != nil && r.Options.CtxTimeout && res.Call.Kind != "batched" && !retry.Applied(err) && gist(err) == "i/o timeout" && !errors.Is(err, res.Late) {
			r.fail("unnamed-ctx", res.Call.Kind, res.Token, 0, "its ctx has ended, %v, and its error is %v", res.Late, err)
		}
		switch {
		case e.Writes > 1 && res.Call.Kind == "lease":
			r.fail("repeated", res.Call.Kind, res.Token, 0, "%s was written %d times", name, e.Writes)
		case len(e.Runs) > 1 && !repeatable(res.Cmd):
			r.fail("twice", name, res.Token, 0, "%s was executed %d times", name, len(e.Runs))
		case err == nil && len(e.Runs) == 0 && !(name == "blpop" && reply == text(nil)):
			r.fail("lost", name, res.Token, 0, "%s was told to be done and never executed", name)
		case err == nil && len(e.Runs) > 0 && reply != e.Runs[0]:
			r.fail("false-reply", name, res.Token, 0, "%s replied %s to its caller; it was executed %d times, first with %s", name, reply, len(e.Runs), e.Runs[0])
		case err != nil && !unknown && len(e.Runs) > 0:
			r.fail("false-error", res.Call.Kind+" "+name, res.Token, 0, "%s was executed, and its error does not say that it may have been: %v", name, err)
		case unknown && len(e.Runs) == 0 && retry.Applied(err):
			r.fail("false-applied", name, res.Token, 0, "%s was never executed, and its error says that it was applied: %v", name, err)
		case unknown && (e.Writes == 0 && res.Call.apart() || !written[callOf(res.Token)]):
			r.fail("unknown-unsent", res.Call.Kind+": "+gist(err), res.Token, 0, "%s is said to be of unknown outcome, and no byte of it was written: %v", name, err)
		}
	}
}

// checkTime: where go-redis does not look at the ctx (it does not while a reply is
// awaited, unless ContextTimeoutEnabled, and never at a cancellation), the timeouts
// of the round trip under way come on top.
func (r *run) checkTime(res Result) {
	if res.Until == 0 || res.Call.Kind == "batched" {
		return
	}
	limit := res.Until + patience
	switch {
	case res.Call.Kind == "acquire":
	case res.Call.Kind == "lease": // it obeys its ctx in all cases once it is had; its caller sleeps with it
		limit += time.Duration(len(res.Call.Cmds)) * res.Call.Hold
	case !r.Options.CtxTimeout || res.Call.Cancel:
		limit += 2 * r.Options.ReadTimeout
		if res.Call.Kind == "watch" { // HELLO, WATCH, the transaction, UNWATCH
			limit += 2 * r.Options.ReadTimeout
		}
		if res.Cmd[0] == "blpop" {
			limit += popTimeout + 10*time.Second // go-redis's own limit for these
		}
	}
	if res.End > limit {
		r.fail("late", res.Call.Kind+": "+gist(res.Err), res.Token, 0, "ended %v after its ctx: %v", res.End-res.Until, res.Err)
	}
}

const (
	recovery = 7 * time.Second
	another  = 20 * ms // what another attempt takes at least
)

// checkRecovery: what begins long after the last fault may find the pool full,
// and nothing else may go wrong.
func (r *run) checkRecovery(res Result) {
	var over time.Duration
	silenced := false // a connection that nobody has used since may be one that a fault has silenced
	moved := false    // or leads to where its name did once
	for _, f := range r.Faults {
		moved = moved || f.Kind == "name moves"
		silenced = silenced || strings.HasPrefix(f.Kind, "lose")
		over = max(over, f.At+f.For+time.Second)
	}
	var said redis.Error
	switch {
	case res.Err == errMine && res.Call.Hooked:
	case res.Err == nil, res.Start < over+recovery, errors.Is(res.Err, redis.ErrPoolTimeout):
	case res.Until > 0 && res.End >= res.Until: // its ctx ended
	case moved && refusedWith(res.Err) == "readonly" && res.Until > 0 && res.Until-res.End < another: // no time for another one
	case silenced && (gist(res.Err) == "i/o timeout" || res.Cmd[0] == "blpop"):
	case res.Call.size() > window && r.Options.ReadTimeout < time.Second: // too large for its timeout
	case errors.As(res.Err, &said) && len(r.Ledger.entry(res.Token).Runs) > 0: // a script's own
	case (res.Call.Kind == "lease" || res.Call.Kind == "watch") && isMoved(res.Err) && !r.heardMoved(over, res.Start):
	default:
		r.fail("stays-broken", res.Call.Kind+": "+gist(res.Err), res.Token, 0, "failed %v after the last fault: %v", res.Start-over, res.Err)
	}
}

func isMoved(err error) bool {
	_, moved := redis.IsMovedError(err)
	return moved
}

// heardMoved reports whether a lease or a WATCH was answered MOVED between after and
// before: the first to use a slot that has moved learns of it in this way, and must not be the
// first of many, as the whole map is renewed then.
func (r *run) heardMoved(after, before time.Duration) bool {
	for _, res := range r.Results {
		if isMoved(res.Err) && res.End > after && res.End < before {
			return true
		}
	}
	return false
}

// checkOwn: an error of a user's hook or credentials provider.
func (r *run) checkOwn(res Result) {
	switch {
	case errors.Is(res.Err, errMine) && res.Err != errMine && !errors.Is(res.Err, retry.ErrUnknownOutcome):
		r.fail("own-error", res.Call.Kind, res.Token, 0, "the user's own error came back as %T: %v", res.Err, res.Err)
	case r.hookedInside(res.Call) && errors.Is(res.Err, retry.ErrBreakerOpen): // it did not get there
	case res.Call.Hooked && res.Err != errMine && res.Late == nil:
		r.fail("own-error", res.Call.Kind, res.Token, 0, "a hook of the user's ended it, and its error is %v", res.Err)
	}
}

// checkMoved: the second lease that is redirected, while nothing changed.
func (r *run) checkMoved() {
	quiet := func(from, to time.Duration) bool {
		for _, at := range r.net.changes {
			if at >= from && at <= to {
				return false
			}
		}
		for _, f := range r.Faults {
			if f.At <= to && f.At+f.For+2*time.Second >= from {
				return false
			}
		}
		return true
	}
	for _, first := range r.Results {
		if first.Call.Kind != "lease" || !isMoved(first.Err) {
			continue
		}
		for _, res := range r.Results {
			if res.Call.Kind == "lease" && isMoved(res.Err) && res.Start > first.End+time.Second && quiet(first.Start, res.End) {
				r.fail("moved-again", "lease", res.Token, 0, "sent away, as the lease %s was %v before", first.Call.ID, res.Start-first.End)
			}
		}
	}
}

// checkRefusal: nothing is repeated on a lease or after a WATCH. What a script
// replies by itself is its answer.
func (r *run) checkRefusal(res Result) {
	refused := refusedWith(res.Err)
	left := res.Until - res.End
	if res.Until == 0 {
		left = time.Hour
	}
	switch res.Call.Kind {
	case "lease", "acquire", "watch":
		return
	}
	if refused == "" || len(r.Ledger.entry(res.Token).Runs) > 0 || left < 2*time.Second || errors.Is(res.Err, retry.ErrUnknownOutcome) {
		return
	}
	for _, cmd := range res.Call.Cmds {
		if script, is := cmd[1].(string); is && cmd[0] == "eval" && (res.Call.Kind == "tx" || strings.Contains(script, "error_reply")) {
			return // the word of a script may be that of the server
		}
		if cmd[0] == "get" && (res.Call.Kind == "pipe" || res.Call.Kind == "batched") {
			return // carried out meanwhile, so that the write before it would come too late
		}
	}
	for _, f := range r.Faults { // it may go on for longer, or another one may follow
		if f.refuses() && refused != "moved" && refused != "ask" && f.For > briefly && f.At < res.End && f.At+f.For+briefly+time.Second > res.Start {
			return
		}
	}
	r.fail("gave-up", res.Call.Kind+" "+refused, res.Token, 0, "%v is what its caller was told, with %v left", res.Err, left)
}

// checkPool looks several times, for maintenance takes a connection now and then.
func (r *run) checkPool() {
	said := ""
	for range 40 {
		open, counted := 0, 0
		r.net.each(nil, func(l *Link) {
			if l.server.sentinel == "" {
				open++
				if r.net.inMap(l.server) {
					counted++
				}
			}
		})
		var conns []hooks.ConnInfo
		for _, i := range r.client.conns() {
			if s := r.net.at(i.Remote); s == nil || s.sentinel == "" {
				conns = append(conns, i)
			}
		}
		ok := len(conns) == open && len(r.client.leases()) == 0
		said = fmt.Sprintf("%d connections are open, Conns has %d, Leases %d", open, len(conns), len(r.client.leases()))
		s := r.client.PoolStats()
		total, idle := s.TotalConns, s.IdleConns
		if p := s.PipelineStats; p != nil {
			total, idle = total+p.TotalConns, idle+p.IdleConns
		}
		// go-redis counts as idle what it means to dial for MinIdleConns, and now and then forgets
		// that it has given up: see the contract tests of its counts.
		// A heartbeat over a long line finds one of each server busy nearly always.
		ok = ok && (idle == total || r.Options.MinIdle > 0 && idle > total ||
			r.Options.Heartbeat > 0 && r.Latency > 0 && idle < total && int(total-idle) <= len(r.net.servers)) && s.PendingRequests == 0
		if r.Options.Blocking == 0 || r.Servers == "sentinel" {
			ok = ok && int(total) == counted
		}
		said += fmt.Sprintf(", %d to servers of the map; PoolStats %d (%d idle, %d waiting)", counted, total, idle, s.PendingRequests)
		if ok {
			return
		}
		time.Sleep(93 * ms)
	}
	r.fail("numbers", r.Servers, "", 0, "%s", said)
}

// repeatable knows what lifeguard may repeat by its documentation.
func repeatable(args []any) bool {
	switch name := args[0].(string); name {
	case "set":
		return len(args) == 3
	case "setbit", "getdel", "getset", "getex", "hgetex": // these two with a time that has passed
		return false
	default:
		_, is := once[name]
		return is
	}
}

// gist is the last part of an error's text.
func gist(err error) string {
	if err == nil {
		return "no error"
	}
	parts := strings.Split(err.Error(), ": ")
	return parts[len(parts)-1]
}
