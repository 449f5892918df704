package dashboard

import "unsafe"

// HistoryBytes is how much memory the history of a page takes.
const HistoryBytes = int(keep/keepEvery) * int(unsafe.Sizeof(past{}))

// RunbookSections are those that alerts link to.
func RunbookSections() (all []string) {
	for _, s := range sections {
		all = append(all, s)
	}
	return all
}
