// Package attempt is what package retry and the code around it agree on about one attempt of a
// command: the marks that its ctx carries, how a command continues after a first attempt in a
// batch, and the error of an attempt whose ctx has ended. It knows nothing of either.
package attempt
