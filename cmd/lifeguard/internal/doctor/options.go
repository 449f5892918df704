package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ReadOptions reads options from JSON: an object with the fields of redis.Options under their Go
// names, and the options of package managed under theirs (WithMaxAge ...). Times are numbers of
// nanoseconds, as encoding/json writes a time.Duration, or strings like "30m". Unknown names, and
// options that JSON cannot express (functions, TLSConfig), are an error that names them; values are
// never shown.
func ReadOptions(r io.Reader) (*redis.Options, Settings, error) {
	opt, set := &redis.Options{}, Settings{}
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, set, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
			return nil, set, fmt.Errorf("line %d: %w", line, err)
		}
		return nil, set, errors.New("want an object, {\"PoolSize\": 10, ...}")
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		raw := fields[name]
		if string(raw) == "null" {
			continue
		}
		target, err := destination(opt, &set, name)
		if err != nil {
			return nil, set, err
		}
		if err := decode(raw, target); err != nil {
			return nil, set, fmt.Errorf("%s: %w", name, err)
		}
	}
	return opt, set, nil
}

// destination returns the field that a name refers to.
func destination(opt *redis.Options, set *Settings, name string) (reflect.Value, error) {
	of := reflect.ValueOf(opt).Elem()
	if short, found := strings.CutPrefix(name, "With"); found {
		of, name = reflect.ValueOf(set).Elem(), short
	}
	f, found := of.Type().FieldByName(name)
	if !found || !f.IsExported() {
		return reflect.Value{}, fmt.Errorf("%s: neither a field of redis.Options nor one of %s", name, strings.Join(settingNames(), ", "))
	}
	v := of.FieldByIndex(f.Index)
	if v.Kind() == reflect.Pointer && of.Type() == reflect.TypeFor[Settings]() {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return v, nil
	}
	return v, fmt.Errorf("%s: cannot be said in JSON; leave it out", name)
}

func settingNames() []string {
	t := reflect.TypeFor[Settings]()
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = "With" + t.Field(i).Name
	}
	return names
}

func decode(raw json.RawMessage, to reflect.Value) error {
	if to.Type() == reflect.TypeFor[time.Duration]() {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			d, err := time.ParseDuration(text)
			if err != nil {
				return errors.New(`want a time like "30m", or nanoseconds`)
			}
			to.SetInt(int64(d))
			return nil
		}
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil {
			return errors.New(`want a time like "30m", or nanoseconds`)
		}
		to.SetInt(n)
		return nil
	}
	if err := json.Unmarshal(raw, to.Addr().Interface()); err != nil {
		return fmt.Errorf("want a value of type %s", to.Type())
	}
	return nil
}
