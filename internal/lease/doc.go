// Package lease takes connections out of a pool, for one caller each, lists those that are held, and
// finds those that were forgotten.
package lease
