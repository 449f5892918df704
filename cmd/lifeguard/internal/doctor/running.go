package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

const (
	pageTimeout = 5 * time.Second
	pageLimit   = 64 << 20 // bytes of a snapshot
)

// Running is what the page of a running program's monitor says.
type Running struct {
	Page     string // its address, without a password
	Snapshot dashboard.Snapshot
}

// ReadPage reads the page of a monitor at an address such as "localhost:6060/debug/redis".
func ReadPage(ctx context.Context, addr string) (*Running, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("want the address of a page, such as localhost:6060/debug/redis")
	}
	r := &Running{Page: u.Redacted()}
	q := u.Query()
	q.Set("get", "snapshot.json")
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // which has no URL, and so no password
		}
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %s", answer.Status)
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, pageLimit)).Decode(&r.Snapshot)
	if err != nil || r.Snapshot.Time.IsZero() {
		return nil, errors.New("it is not the page of a monitor, see package monitor/dashboard")
	}
	return r, nil
}

// runningPool judges the pools of a running program. It advises a size only from measured callers,
// and only if the round trip is known, too.
func runningPool(r *Running, rtt RoundTrip) Finding {
	s, a := &r.Snapshot.Stats, r.Snapshot.Advice
	f := Finding{ID: "running-pool"}
	p, ok := s.FullestPool("")
	callers := ""
	if p.Waiting > 0 {
		callers = ", " + errtext.Count(p.Waiting, "caller") + " waiting"
	}
	at := "the program at " + r.Page
	switch {
	case !ok:
		f.Severity = Note
		f.What = "no pool of " + at + " is judged: it reports no size"
		f.Why = "its numbers are not known now: " + strings.Join(s.Gaps, "; ")
		f.Change = "open " + r.Page
	case a.Peak > 0 && a.Suggested > a.PoolSize:
		f.Severity = Warning
		f.What = fmt.Sprintf("the main pool%s is too small for %s: PoolSize %d, up to %s at once", of(a.Node), at, a.PoolSize, errtext.Count(a.Peak, "caller"))
		f.Why = a.Why
		if rtt.Count == 0 {
			f.Change = "allow PING to the user of doctor: without the round trip it advises no size"
			break
		}
		f.Why += "; the round trip is " + show.Short(rtt.Median)
		f.Change = goLine("PoolSize", a.Suggested, fmt.Sprintf("pool_size=%d", a.Suggested))
	case p.Use() >= 0.95:
		f.Severity = Warning
		f.What = fmt.Sprintf("the %s pool%s of %s is full: %d of %d in use%s", p.Kind, of(p.Name)+of(p.Node), at, p.InUse, p.Size, callers)
		f.Why = "the next caller has to wait for a connection"
		if p.Kind == "main" && p.Name == "" {
			f.Why += "; " + a.Why
		}
		f.Change = "open " + r.Page + ": its tables Leases and In flight show who has the connections"
	default:
		f.What = fmt.Sprintf("no pool of %s is too small: the fullest (%s%s) has %d of %d in use%s; %s", at, p.Kind, of(p.Name)+of(p.Node), p.InUse, p.Size, callers, a)
	}
	return f
}

func of(what string) string {
	if what == "" {
		return ""
	}
	return " of " + show.Clean(what)
}
