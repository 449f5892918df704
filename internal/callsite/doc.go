// Package callsite records where leases are taken: the call stack of each, the sites that have leaked
// one, and a log that names each site once a minute.
package callsite
