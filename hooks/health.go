package hooks

// Health is what is known of a node.
type Health uint32

const (
	Healthy     Health = iota // as far as is known
	Degraded                  // it is connected to, but answers nobody in time
	Unreachable               // it cannot be dialed
	Refusing                  // it can be dialed, but lets nobody new in: maxclients, a password, a cut in the handshake
	Recovering                // it can be dialed again, and nobody has been let in yet
)

var healthNames = [...]string{"healthy", "degraded", "unreachable", "refusing", "recovering"}

// String is the state in lower case.
func (h Health) String() string {
	if int(h) < len(healthNames) {
		return healthNames[h]
	}
	return "unknown"
}
