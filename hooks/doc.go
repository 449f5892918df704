// Package hooks has the types that describe connections to users: their events ([Event], [Reason]),
// what each of them is doing ([ConnInfo], [State], [Pool]), the health of a node ([Health]), and
// the error of a connection that failed ([*ConnError]). The clients of package managed return them;
// there is nothing to call here.
package hooks
