// Package export is what the exporters of a Monitor have in common: the table of
// all metrics, and a Reader that makes points of them, leaving out what is not known.
//
// The exporters are modules of their own and may be used with a later version of
// this one. So what is exported here may be added to, but not changed.
package export
