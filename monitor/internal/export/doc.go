// Package export is the common part of a Monitor's exporters: the table of all metrics, and a
// Reader that turns them into points and leaves out unknown values.
//
// The exporters are separate modules and may be used with a later version of this one. So the
// exported API here may grow, but must not change.
package export
