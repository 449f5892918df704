package fleet

import (
	"fmt"
	"time"
)

// Written is an instance as it is in Redis.
func Written(i Instance) map[string]string {
	c := &config{keep: time.Minute}
	h := map[string]string{}
	f := c.fields(&i)
	for k := 0; k < len(f); k += 2 {
		h[f[k].(string)] = fmt.Sprint(f[k+1])
	}
	return h
}

// Parse reads it.
var Parse = parse
