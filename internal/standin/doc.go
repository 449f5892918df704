// Package standin makes go-redis clients that send nothing. A library adds its hooks to one, and
// they run around the calls of the real client. It knows nothing of package managed, except that its
// errors name it, because users meet them there.
package standin
