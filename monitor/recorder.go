package monitor

// Recorder is what a [Source] counts with while commands run, for one node: the distributions and
// the peak. The zero value is ready for use. It is safe for concurrent use and must not be copied.
type Recorder struct {
	Dial, Wait, Hold, Command Histogram
	// Use counts commands, pipelines and leases that want a connection: enter it before waiting
	// for a connection, leave it when the connection is no longer needed.
	Use Peak
}

// Fill sets what was recorded in n: the four distributions, PeakDemand, whose peak it resets, and
// PeakInUse, which is the same value: the Monitor limits it to the size of the pools.
func (r *Recorder) Fill(n *Numbers) {
	n.Dial, n.Wait, n.Hold, n.Command = r.Dial.Snapshot(), r.Wait.Snapshot(), r.Hold.Snapshot(), r.Command.Snapshot()
	n.PeakDemand = r.Use.Take()
	n.PeakInUse = n.PeakDemand
}
