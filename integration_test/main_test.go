package integration_test

import (
	"os"
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) {
	redistest.Register(startContainer)
	redistest.Main(m)
}

// TestThereIsASharedServer says which one. With LIFEGUARD_WANT_CONTAINER=true it
// has to be a container.
func TestThereIsASharedServer(t *testing.T) {
	source := redistest.Source(t)
	if source == "provider" {
		source = "container of " + image()
	} else if os.Getenv("LIFEGUARD_WANT_CONTAINER") == "true" {
		t.Errorf("the tests run on %s, and LIFEGUARD_WANT_CONTAINER wants a container", source)
	}
	c := plain(t)
	key := redistest.UniqueKey(t, "smoke")
	if err := c.Set(t.Context(), key, "works", 0).Err(); err != nil {
		t.Fatal(err)
	}
	defer c.Del(t.Context(), key)
	if got, err := c.Get(t.Context(), key).Result(); err != nil || got != "works" {
		t.Fatalf("GET gave %q, %v", got, err)
	}
	info, err := c.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("shared server: %s, version %s", source, info["Server"]["redis_version"])
}

func TestLIFEGUARD_NO_CONTAINERTurnsContainersOff(t *testing.T) {
	t.Setenv("LIFEGUARD_NO_CONTAINER", "true")
	if url, _, err := startContainer(); err == nil {
		t.Fatalf("got a container at %s", url)
	}
}

func TestAnImageThatIsNotThereIsAnErrorAndNoPanic(t *testing.T) {
	t.Setenv("LIFEGUARD_REDIS_IMAGE", "localhost:1/no/such-image:0")
	url, _, err := startContainer()
	if err == nil {
		t.Fatalf("got a container at %s", url)
	}
	t.Log(err)
}
