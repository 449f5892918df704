// Package ecosystem runs libraries that build on go-redis on a managed client,
// beside a bare one: the same calls must give the same results and show the same
// commands to a hook, also when connections are killed, and leave no goroutine. It
// is a module of its own, so that nobody else requires those libraries.
//
// To add one, write a file like redsync_test.go and name it in libraries.
package ecosystem
