// Package browser drives the live page of monitor/dashboard in a headless Chromium.
// It is a module of its own, so that nobody else requires what drives it. The
// browser is looked for on PATH (chromium, chromium-headless-shell, google-chrome),
// or is the program that LIFEGUARD_CHROMIUM names. Pictures of the page, for docs/images:
//
//	go test -count=1 -run TestPictures -pictures DIR
package browser
