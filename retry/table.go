package retry

import "sort"

//go:generate go run ../cmd/internal/gencommands -out table_gen.go localhost:6379 localhost:6380
//go:generate go test -count=1 -run TestThePageOfCommandsIsThatOfTheCode . -update

// command is a row of the generated table. Subcommands are named "config|get".
type command struct {
	name              string
	flags             flags
	first, last, step int8 // key positions, as in the reply to COMMAND
}

type flags uint8

const (
	fRead    flags = 1 << iota // the server says: readonly
	fWrite                     // the server says: write
	fMovable                   // keys are not where first, last and step say
	fFan                       // a cluster client sends it to several nodes
)

// lookup finds a command by its lower-case name, or nil.
func lookup(name string) *command {
	i := sort.Search(len(commands), func(i int) bool { return commands[i].name >= name })
	if i < len(commands) && commands[i].name == name {
		return &commands[i]
	}
	return nil
}
