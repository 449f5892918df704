package hooks

// Health is the state of a node, judged by its connections.
type Health uint32

const (
	Healthy     Health = iota // as far as known
	Degraded                  // it accepts connections, but does not answer in time
	Unreachable               // it cannot be dialed
	Refusing                  // it can be dialed, but refuses new connections: maxclients, a password, a cut in the handshake
	Recovering                // it can be dialed again, but no handshake has succeeded yet
)

var healthNames = [...]string{"healthy", "degraded", "unreachable", "refusing", "recovering"}

// String returns the state in lower case.
func (h Health) String() string {
	if int(h) < len(healthNames) {
		return healthNames[h]
	}
	return "unknown"
}
