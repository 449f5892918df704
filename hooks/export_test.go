package hooks

// CountsOf is how Main and Pipeline count.
var CountsOf = counts

// VisitHead is how every visit begins.
func VisitHead() []byte { return visitHead }

// Sweep says that a sweep is on until end is called.
func (n *Node) Sweep() (end func()) {
	n.sweeping.Add(1)
	return func() { n.sweeping.Add(-1) }
}
