package otel_test

import (
	"context"
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

var bg = context.Background()
