package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// result is what one side did with the load.
type result struct {
	name          string
	requests      int
	failed        int
	took          time.Duration
	median, p99   time.Duration
	conns, dbRead int64
}

// load sends requests to app over HTTP from at users at once, each with a session
// of its own. It ends early when ctx does.
func load(ctx context.Context, name string, app *shop, requests, at int) (result, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return result{}, err
	}
	srv := &http.Server{Handler: app.handler(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(ln)
	}()
	defer func() {
		_ = srv.Close()
		<-served
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: at}
	defer transport.CloseIdleConnections()
	browser := &http.Client{Transport: transport}

	var (
		next   atomic.Int64
		failed atomic.Int64
		took   = make([]time.Duration, requests)
		users  sync.WaitGroup
		begin  = time.Now()
	)
	for range at {
		users.Go(func() {
			var session *http.Cookie
			for {
				i := int(next.Add(1)) - 1
				if i >= requests || ctx.Err() != nil {
					return
				}
				from := time.Now()
				cookie, err := get(ctx, browser, fmt.Sprintf("http://%s/products/%d", ln.Addr(), i%products+1), session)
				took[i] = time.Since(from)
				if err != nil {
					failed.Add(1)
				}
				if cookie != nil {
					session = cookie
				}
			}
		})
	}
	users.Wait()
	all := time.Since(begin)
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	slices.Sort(took)
	return result{name: name, requests: requests, failed: int(failed.Load()), took: all, median: took[requests/2],
		p99: took[(requests*99-1)/100], conns: app.cache.opened(), dbRead: app.db.reads.Load()}, nil
}

// get requests a page, and returns the session cookie that came with it, if any.
func get(ctx context.Context, c *http.Client, url string, session *http.Cookie) (*http.Cookie, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if session != nil {
		req.AddCookie(session)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", resp.Status)
	}
	for _, c := range resp.Cookies() {
		if c.Name == "session" {
			return c, nil
		}
	}
	return nil, nil
}

func printTable(out io.Writer, rs []result) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	row := func(what string, value func(result) string) {
		fmt.Fprint(w, what, "\t")
		for _, r := range rs {
			fmt.Fprint(w, value(r), "\t")
		}
		fmt.Fprintln(w)
	}
	short := func(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }
	row("", func(r result) string { return r.name })
	row("requests", func(r result) string { return fmt.Sprint(r.requests) })
	row("failed", func(r result) string { return fmt.Sprint(r.failed) })
	row("a second", func(r result) string { return fmt.Sprintf("%.0f", float64(r.requests)/r.took.Seconds()) })
	row("half of them within", func(r result) string { return short(r.median) })
	row("99 % within", func(r result) string { return short(r.p99) })
	row("connections opened to Redis", func(r result) string { return fmt.Sprint(r.conns) })
	row("reads of the database", func(r result) string { return fmt.Sprint(r.dbRead) })
	_ = w.Flush()
}
