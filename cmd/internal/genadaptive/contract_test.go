package main

import (
	"context"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is batched is made by a client with a hook that sends nothing. So a method
// must process one command, once, return that, and do nothing with it afterwards;
// and a key must be where a cluster looks for it.
func TestGoRedisMakesTheCommandsThatAreBatchedAndReturnsThem(t *testing.T) {
	client, err := universalClient()
	require.NoError(t, err)
	ways, err := ways(client, classes)
	require.NoError(t, err)
	var got []redis.Cmder
	rdb := redis.NewClient(&redis.Options{Addr: "nowhere"})
	defer rdb.Close()
	rdb.AddHook(recorder{&got})
	n := 0
	for name, way := range ways {
		if way == direct {
			continue
		}
		n++
		fn := reflect.ValueOf(rdb).MethodByName(name)
		require.True(t, fn.IsValid(), name)
		got = nil
		out := fn.Call(arguments(fn.Type()))
		if !assert.Lenf(t, got, 1, "%s processes one command", name) {
			continue
		}
		cmd := got[0]
		assert.Samef(t, cmd, out[0].Interface(), "%s returns the command that it processed", name)
		assert.NoErrorf(t, cmd.Err(), "%s", name)
		if way == batched {
			assert.Equalf(t, theKey, cmd.Args()[1], "%s has its key first", name)
		}
		assert.Falsef(t, cmd.NoRetry(), "%s", name)
	}
	require.Greater(t, n, 150)
}

const theKey = "key"

type recorder struct{ got *[]redis.Cmder }

func (recorder) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
}
func (r recorder) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { *r.got = append(*r.got, cmd); return nil }
}
func (recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// arguments makes some that go-redis takes. Every string is the key.
func arguments(fn reflect.Type) []reflect.Value {
	var in []reflect.Value
	for i := range fn.NumIn() {
		if typ := fn.In(i); i == fn.NumIn()-1 && fn.IsVariadic() {
			if k := typ.Elem().Kind(); k != reflect.Int && k != reflect.Int64 { // numbers are optional
				in = append(in, value(typ.Elem()), value(typ.Elem()))
			}
		} else {
			in = append(in, value(typ))
		}
	}
	return in
}

func value(typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	switch {
	case typ == reflect.TypeFor[context.Context]():
		return reflect.ValueOf(context.Background())
	case typ == reflect.TypeFor[time.Duration]():
		return reflect.ValueOf(time.Minute)
	case typ == reflect.TypeFor[*redis.BitCount](): // it wants a unit
	case typ.Kind() == reflect.String:
		v.SetString(theKey)
	case typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct:
		v.Set(value(typ.Elem()).Addr())
	case typ.Kind() == reflect.Struct && typ.PkgPath() != "time":
		for i := range typ.NumField() {
			if typ.Field(i).IsExported() {
				v.Field(i).Set(value(typ.Field(i).Type))
			}
		}
	case typ.Kind() == reflect.Interface && typ.NumMethod() == 0:
		v.Set(reflect.ValueOf(theKey))
	case typ.Kind() == reflect.Slice:
		v = reflect.Append(v, value(typ.Elem()))
	}
	return v
}
