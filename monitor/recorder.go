package monitor

// Recorder is what a [Source] counts with while commands run, for one node: the
// distributions and the peak. The zero value is ready for use. It is safe for
// concurrent use and must not be copied.
type Recorder struct {
	Dial, Wait, Hold, Command Histogram
	// Use is entered by who wants a connection, before it waits for one, and left
	// when it needs it no longer: by commands, pipelines and leases alike.
	Use Peak
}

// Fill puts what was recorded into n: the four distributions, PeakDemand, whose peak
// begins anew, and PeakInUse, which is as high unless the pools are smaller.
func (r *Recorder) Fill(n *Numbers) {
	n.Dial, n.Wait, n.Hold, n.Command = r.Dial.Snapshot(), r.Wait.Snapshot(), r.Hold.Snapshot(), r.Command.Snapshot()
	n.PeakDemand = r.Use.Take()
	n.PeakInUse = n.PeakDemand
}
