// Package command is the one table of what is known about commands: what they do when
// they are sent twice, where their keys are, whether they may wait in the server, what
// they leave on their connection, and which of them go-redis sends by itself.
package command
