package callsite

import "strings"

// Short returns the last directory, the file and the line of a call site.
func Short(site string) string {
	if i := strings.LastIndexByte(site, '/'); i > 0 {
		if j := strings.LastIndexByte(site[:i], '/'); j >= 0 {
			return site[j+1:]
		}
	}
	return site
}
