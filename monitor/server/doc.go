// Package server samples the server's own numbers about its clients: how many are connected,
// blocked, rejected and evicted, how many it accepts, how much memory they use, and its limits for
// them. It works on any go-redis client, and does not depend on the rest of lifeguard.
//
//	s, err := server.Get(ctx, rdb)
//	if share, ok := s.ShareOfMaxClients(); ok && share > 0.8 { ... }
//
// The numbers come from INFO and CONFIG GET. Managed services forbid CONFIG, and ACL users often
// have neither: then the numbers are unknown, and marked as such (see [Opt]). A number is never
// guessed: what cannot be read is unknown, and [Sample].Gaps says why.
package server
