package serverside

import (
	"context"
	"errors"
	"strconv"
)

// List returns the clients that are connected and fit the filter, in the order
// in which the server gives them. On clusters it asks every node; see
// [Client.Node].
//
// When it could not see everything, it returns what it saw together with an
// error: a *[MalformedError] for lines that it could not read (after filtering
// nobody knows whether they would have fit), an *[Error] for each node that did
// not answer. It sends no field of the filter to the server, so it means the same
// with every version. Safe for concurrent use.
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

// listNode asks one node, for all or for some ids. Malformed lines go to torn.
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
