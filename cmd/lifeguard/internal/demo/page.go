package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

// pagePath is where the live page is.
const pagePath = "/debug/redis"

// CheckHTTP checks whether the live page can be served at addr, as far as can be seen
// from it.
func CheckHTTP(addr string) error {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return errors.New("want HOST:PORT, or :PORT for localhost")
	}
	return nil
}

// servePage serves the live page of the client until stop is called. Without a host it listens on
// loopback only, because the page has no authentication.
func (d *demo) servePage(addr string) (stop func(), err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("demo: page: %w", err)
	}
	if host == "" {
		host = "localhost"
	}
	page, err := dashboard.New(d.client.PoolMonitor(), dashboard.WithTitle("lifeguard demo"), dashboard.WithActions())
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		var call *os.SyscallError
		if errors.As(err, &call) { // the address is said once
			err = call.Err
		}
		return nil, fmt.Errorf("--http %s: %w", addr, err)
	}
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	mux := http.NewServeMux()
	mux.Handle(pagePath, page)
	mux.Handle("GET /{$}", http.RedirectHandler(pagePath, http.StatusFound))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	server.RegisterOnShutdown(page.Close)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(ln) // Shutdown ends it
	}()
	d.screen.printf("The live page: http://%s%s\n", net.JoinHostPort(host, port), pagePath)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		page.Close()
		<-ended
	}, nil
}
