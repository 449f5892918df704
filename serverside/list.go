package serverside

import (
	"context"
	"errors"
	"strconv"
)

// List returns the connected clients that match the filter, in the server's order. On clusters it
// queries every node; see [Client.Node].
//
// If the result is incomplete, List returns it together with an error: a *[MalformedError] for
// lines that it could not parse (also if a filter is set: such a line might have matched), an
// *[Error] for each node that did not reply. It filters on the client side only, so a filter means
// the same with every server version. Safe for concurrent use.
func List(ctx context.Context, rdb Commander, f Filter) ([]Client, error) {
	if err := checkClient(rdb); err != nil {
		return nil, err
	}
	m, err := f.compile("Filter")
	if err != nil {
		return nil, err
	}
	var out []Client
	var torn MalformedError
	err = eachNode(ctx, rdb, func(ctx context.Context, node string, c Commander) error {
		all, err := listNode(ctx, node, c, nil, &torn)
		for i := range all {
			if m.match(&all[i]) {
				out = append(out, all[i])
			}
		}
		return err
	})
	return out, with(err, &torn)
}

// listNode queries one node, for all clients or for some ids. Malformed lines go to torn.
func listNode(ctx context.Context, node string, c Commander, ids []int64, torn *MalformedError) ([]Client, error) {
	args := []any{"CLIENT", "LIST"}
	if len(ids) > 0 {
		args = append(args, "ID")
		for _, id := range ids {
			args = append(args, strconv.FormatInt(id, 10))
		}
	}
	reply, err := c.Do(ctx, args...).Text()
	if err != nil {
		return nil, fail(ctx, "list", node, err)
	}
	list, err := Parse(reply)
	var m *MalformedError
	if errors.As(err, &m) {
		torn.merge(m, node)
	}
	for i := range list {
		list[i].Node = node
	}
	return list, nil
}
