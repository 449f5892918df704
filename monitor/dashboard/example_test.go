package dashboard_test

import (
	"log"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

// The page of a managed client, on a server of its own that is for this machine only.
func Example() {
	rdb := managed.NewClient(&redis.Options{Addr: "localhost:6379"}, managed.WithMonitor(monitor.WithInterval(5*time.Second)))
	defer rdb.Close()

	page, err := dashboard.New(rdb.PoolMonitor(), dashboard.WithTitle("orders"))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/redis", page)
	server := &http.Server{Addr: "localhost:6060", Handler: mux}
	server.RegisterOnShutdown(page.Close) // Shutdown waits for streams
	log.Print(server.ListenAndServe())
}

// A plain go-redis client: what it does not report is shown as unknown.
func Example_plain() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook())
	m, err := monitor.New(src)
	if err != nil {
		log.Fatal(err)
	}
	m.Start() // look for alerts
	defer m.Close()
	page, err := dashboard.New(m)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/debug/redis", page)
	log.Print(http.ListenAndServe("localhost:6060", nil))
}
