// Package hooks is what users see of connections: the events of their lives
// ([Event], [Reason]), what each of them is doing ([ConnInfo], [State], [Pool]),
// how a node is ([Health]), and the error of one that failed ([*ConnError]). The
// clients of package managed hand these out; there is nothing to call here.
package hooks
