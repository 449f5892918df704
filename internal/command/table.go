package command

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:generate go run ../../cmd/internal/gencommands -out table_gen.go localhost:6379 localhost:6380
//go:generate go test -count=1 -run TestThePageOfCommandsIsThatOfTheCode ../../retry -update

// served is what servers report about a command. Subcommands are named "config|get".
type served struct {
	name              string
	is                flags
	first, last, step int8 // key positions, as in the reply to COMMAND
}

// row is a command.
type row struct {
	served
	decision     *decision    // nil: the class follows from the flags
	leaves, ends SessionState // how it changes the state of its connection

	next uint16 // of the rows in its slot
}

// isRead reports whether the servers say that it only reads.
func (r *row) isRead() bool { return r.is&(read_|write) == read_ }

// flags are the boolean columns of the table.
type flags uint16

const (
	read_   flags = 1 << iota // the server says: readonly
	write                     // the server says: write
	movable                   // first, last and step do not give its keys
	fan                       // a cluster client sends it to several nodes
	asked                     // a server was asked about it: it is in table_gen.go

	container   // it has only subcommands
	bound       // its effect, or its reply, differs on another connection
	handshake   // go-redis sets up a connection with it
	script      // its reply can be made up by the caller's own code
	blocks      // may wait in the server
	blocksAsked // ... if BLOCK is among its arguments
	anyKey      // may touch keys that it does not name
)

// table holds the rows, found by their names' length, first and last letter. Whether a command has
// none of some flags is found out in one step, without an allocation.
type table struct {
	rows  []row             // row 0 is not used
	slots [slots]uint16     // index of the first row of each slot
	flags [slots]flags      // union of the flags of all rows in each slot
	index map[string]uint16 // used only while the table is built
}

const slots = 1024

// slot returns the slot of a name, in any case; the name must not be empty.
func slot(name string) uint {
	first, last := name[0]|0x20, name[len(name)-1]|0x20
	return (uint(len(name))*137 + uint(first)*31 + uint(last)*7) % slots
}

// lookup finds a command by its name, in any case, or nil.
func lookup(name string) *row {
	if name == "" {
		return nil
	}
	for i := all.slots[slot(name)]; i != 0; i = all.rows[i].next {
		if r := &all.rows[i]; len(r.name) == len(name) && (r.name == name || strings.EqualFold(r.name, name)) {
			return r
		}
	}
	return nil
}

// has reports whether the command of this name has one of the flags.
func has(name string, is flags) bool {
	if name == "" || all.flags[slot(name)]&is == 0 {
		return false
	}
	r := lookup(name)
	return r != nil && r.is&is != 0
}

// find returns the row of a command, nil if it has none, and its name in lower case, including the
// subcommand if the server knows one: "get", "config|set". The name is "" for a command without
// one. A subcommand newer than the table is not mistaken for its container.
func find(cmd redis.Cmder) (*row, string, Args) {
	a := Args(cmd.Args())
	name := a.lower(0)
	r := lookup(name)
	if r != nil && r.is&container != 0 && len(a) > 1 {
		if sub, ok := a.Text(1); ok && len(sub) <= 32 {
			name += "|" + strings.ToLower(sub)
			return lookup(name), name, a
		}
	}
	return r, name, a
}

var all = build()

// build makes the table from what servers report and from the decisions.
func build() *table {
	t := &table{rows: make([]row, 1, 800), index: map[string]uint16{}}
	for _, s := range generated {
		s.is |= asked
		t.row(s.name).served = s
	}
	for _, list := range [][]decision{decisions, moduleDecisions} {
		for i := range list {
			for name := range strings.FieldsSeq(list[i].names) {
				t.row(name).decision = &list[i]
			}
		}
	}
	for _, x := range traits {
		for name := range strings.FieldsSeq(x.names) {
			t.row(name).is |= x.is
		}
	}
	for _, x := range sessions {
		for name := range strings.FieldsSeq(x.names) {
			r := t.row(name)
			r.leaves, r.ends = x.leaves, x.ends
		}
	}
	for i := 1; i < len(t.rows); i++ {
		if name, _, sub := strings.Cut(t.rows[i].name, "|"); sub {
			t.row(name).is |= container
		}
	}
	for i := 1; i < len(t.rows); i++ {
		r := &t.rows[i]
		if strings.HasPrefix(r.name, "client|") {
			r.is |= bound
		}
		s := slot(r.name)
		r.next, t.slots[s] = t.slots[s], uint16(i)
		t.flags[s] |= r.is
	}
	t.index = nil
	return t
}

// row returns the row of a name, and creates it if there is none.
func (t *table) row(name string) *row {
	i, ok := t.index[name]
	if !ok {
		i = uint16(len(t.rows))
		t.index[name] = i
		t.rows = append(t.rows, row{served: served{name: name}})
	}
	return &t.rows[i]
}
