package dashboard

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// words assigns each word a number, so that a thousand rows contain it once.
type words struct {
	list []string
	at   map[string]int
}

func (w *words) number(s string) int {
	i, ok := w.at[s]
	if !ok {
		if w.at == nil {
			w.at = map[string]int{}
		}
		i = len(w.list)
		w.at[s], w.list = i, append(w.list, s)
	}
	return i
}

// connsEvent writes the table of connections: {"known":true,"rows":[[...]],"words":[...]}. Rows
// contain the numbers of words; times are in ms.
func connsEvent(p part, conns []monitor.Connection, known bool, failed string) []byte {
	var w words
	b := begin(len(conns)*64, p, known && failed == "")
	for i := range conns {
		c := &conns[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendUint(b, c.ID, 10)
		b = word(b, &w, c.Node)
		b = appendString(append(b, ','), c.Local)
		b = word(b, &w, c.Pool)
		b = word(b, &w, c.State)
		b = word(b, &w, c.Command)
		b = millis(b, c.Age)
		b = millis(b, c.Idle)
		b = strconv.AppendUint(append(b, ','), c.In, 10)
		b = strconv.AppendUint(append(b, ','), c.Out, 10)
		b = word(b, &w, c.Closing)
		b = flag(b, c.TLS)
		b = append(b, ']')
	}
	return finish(b, &w, failed)
}

// leasesEvent writes the table of leases, without their stacks.
func leasesEvent(leases []monitor.Lease, known bool, failed string) []byte {
	var w words
	b := begin(len(leases)*64, partLeases, known && failed == "")
	for i := range leases {
		l := &leases[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = strconv.AppendUint(b, l.ID, 10)
		b = word(b, &w, l.Node)
		b = strconv.AppendUint(append(b, ','), l.ConnID, 10)
		b = word(b, &w, l.Site)
		b = word(b, &w, l.Label)
		b = word(b, &w, l.Command)
		b = millis(b, l.Held)
		b = flag(b, l.InFlight)
		b = flag(b, l.Reported)
		b = flag(b, l.Stack != "")
		b = append(b, ']')
	}
	return finish(b, &w, failed)
}

func begin(size int, p part, known bool) []byte {
	b := make([]byte, 0, size+256)
	b = append(b, "event: "...)
	b = append(b, partNames[p]...)
	b = append(b, "\ndata: {\"known\":"...)
	b = strconv.AppendBool(b, known)
	return append(b, `,"rows":[`...)
}

func finish(b []byte, w *words, failed string) []byte {
	b = append(b, `],"words":[`...)
	for i, s := range w.list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	b = append(b, `],"failed":`...)
	b = appendString(b, failed)
	return append(b, "}\n\n"...)
}

func word(b []byte, w *words, s string) []byte {
	return strconv.AppendInt(append(b, ','), int64(w.number(s)), 10)
}

func millis(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(append(b, ','), d.Milliseconds(), 10)
}

func flag(b []byte, on bool) []byte {
	if on {
		return append(b, ",1"...)
	}
	return append(b, ",0"...)
}

// appendString writes s as JSON.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			q, _ := json.Marshal(s) // a string: not possible to fail
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// inFlight returns the connections that wait for a reply.
func inFlight(conns []monitor.Connection, leases []monitor.Lease) []monitor.Connection {
	leased := map[uint64]bool{}
	for i := range leases {
		if leases[i].InFlight {
			leased[leases[i].ConnID] = true
		}
	}
	var busy []monitor.Connection
	for i := range conns {
		if c := &conns[i]; c.State == "busy" || leased[c.ID] {
			busy = append(busy, *c)
		}
	}
	return busy
}
