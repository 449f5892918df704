// Package server samples the server's own numbers about its clients: how many
// are connected, blocked, rejected and evicted, of how many it takes, what they
// cost in memory, and its limits for them. It works on any go-redis client, and
// knows nothing of the rest of lifeguard.
//
//	s, err := server.Get(ctx, rdb)
//	if share, ok := s.ShareOfMaxClients(); ok && share > 0.8 { ... }
//
// The numbers come from INFO and CONFIG GET. Managed services forbid CONFIG, and
// users of an ACL often have neither: then the numbers are not known, and say so
// (see [Opt]). A number is never guessed: what cannot be read is unknown, and
// [Sample].Gaps says why.
package server
