// Package attempt is what package retry and the code around it agree on about one attempt of a
// command: the marks that its ctx carries, how a command continues after a first attempt in a
// batch, the error of an attempt whose ctx has ended, and the pause before another one. It knows
// nothing of either.
package attempt
