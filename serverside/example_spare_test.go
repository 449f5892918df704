package serverside_test

import (
	"fmt"
	"time"

	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Whom a Reaper leaves alone, by name.
func ExampleSpareNames() {
	spare := serverside.SpareNames("web-*", "worker-?")
	for _, name := range []string{"web-1", "worker-7", "worker-12", ""} {
		fmt.Printf("%q %v\n", name, spare(serverside.Client{Name: name}))
	}
	// Output:
	// "web-1" true
	// "worker-7" true
	// "worker-12" false
	// "" false
}

// Several rules together: any of them spares.
func ExampleSpareAny() {
	spare := serverside.SpareAny(serverside.SpareNames("web-*"), serverside.SpareIDs(func() []int64 { return []int64{7} }))
	fmt.Println(spare(serverside.Client{ID: 7}), spare(serverside.Client{ID: 8}))
	// Output: true false
}

func ExamplePolicy_Validate() {
	fmt.Println(serverside.Policy{User: "ci"}.Validate() != nil, "without a limit")
	fmt.Println(serverside.Policy{MaxAge: time.Hour}.Validate() != nil, "without saying whom it is about")
	fmt.Println(serverside.Policy{User: "ci", MaxAge: time.Hour}.Validate())
	// Output:
	// true without a limit
	// true without saying whom it is about
	// <nil>
}
