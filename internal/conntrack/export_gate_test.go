package conntrack

// ProbePause is the pause before the next probe of an outage.
var ProbePause = probePause
