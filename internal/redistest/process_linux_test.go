package redistest_test

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestNoServerOutlivesATestBinaryThatIsKilled(t *testing.T) {
	if os.Getenv("REDISTEST_CHILD") == "1" {
		s := redistest.Start(t)
		os.Stdout.WriteString(s.Addr() + "\n")
		select {}
	}
	redistest.Binary(t, "redis-server")
	exe, err := os.Executable()
	assert.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "REDISTEST_CHILD=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	assert.NoError(t, err)
	assert.NoError(t, cmd.Start())
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	assert.NoError(t, err)
	addr := string(buf[:max(0, n-1)])
	assert.True(t, listens(addr), addr)
	cmd.Process.Kill()
	cmd.Wait()
	redistest.Eventually(t, "the server has gone with its test binary", 3*time.Second, func() bool { return !listens(addr) })
}
