// Package command is the only table of what is known about commands: what happens when they are
// sent twice, where their keys are, whether they may block in the server, what state they leave on
// their connection, and which of them go-redis sends by itself.
package command
