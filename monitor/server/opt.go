package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Opt is a value that may be unknown. The zero Opt is unknown. In JSON an unknown one is null, and
// a time.Duration is a number of seconds.
type Opt[T any] struct {
	Val   T    // the zero value if unknown
	Known bool // whether the server reported it
}

// Some returns a known value.
func Some[T any](v T) Opt[T] { return Opt[T]{v, true} }

// Get returns the value, and whether it is known.
func (o Opt[T]) Get() (T, bool) { return o.Val, o.Known }

// Or returns the value, or v if it is unknown.
func (o Opt[T]) Or(v T) T {
	if o.Known {
		return o.Val
	}
	return v
}

// String returns the value, or "?".
func (o Opt[T]) String() string {
	if !o.Known {
		return "?"
	}
	return fmt.Sprint(o.Val)
}

// MarshalJSON implements [json.Marshaler].
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if !o.Known {
		return []byte("null"), nil
	}
	if d, ok := any(o.Val).(time.Duration); ok {
		return json.Marshal(d.Seconds())
	}
	return json.Marshal(o.Val)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	*o = Opt[T]{}
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return nil
	}
	if d, ok := any(&o.Val).(*time.Duration); ok {
		var s float64
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*d = time.Duration(s * float64(time.Second))
	} else if err := json.Unmarshal(b, &o.Val); err != nil {
		return err
	}
	o.Known = true
	return nil
}
