package middleware_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// countedBody tells how much of all bodies has been read.
type countedBody struct {
	io.ReadCloser
	read *atomic.Int64
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}

// heapOf returns the live heap, in bytes a connection, of conns connections to
// handler that each promise a body of 1 MiB and send the first bytes of it.
func heapOf(t *testing.T, handler http.Handler, conns, sent int) int64 {
	t.Helper()
	var read atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = countedBody{r.Body, &read}
		handler.ServeHTTP(w, r)
	}))
	defer srv.Close()
	before := liveHeap()
	text := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", sent)
	for range conns {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return read.Load() == int64(conns*sent) }, 20*time.Second, time.Millisecond)
	return (liveHeap() - before) / int64(conns)
}

func liveHeap() int64 {
	var m runtime.MemStats
	for range 3 { // what is in a sync.Pool lives through one collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestLyingContentLength: memory follows what has arrived, not what
// Content-Length promises.
func TestLyingContentLength(t *testing.T) {
	const conns = 200
	bare := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 512)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				return
			}
		}
	})
	guard := &middleware.Guard{
		Verifier: verifier(t), Contract: middleware.Contract{Deadline: time.Minute}, Observe: new(results).observe,
	}
	heapOf(t, bare, conns, 200) // what is allocated once is none of the connections'
	for _, sent := range []int{200, 50_000} {
		t.Run(fmt.Sprint(sent), func(t *testing.T) {
			base := heapOf(t, bare, conns, sent)
			guarded := heapOf(t, guard.Handler(http.NotFoundHandler()), conns, sent)
			t.Logf("live heap of a connection that promises 1 MiB and sends %d bytes: %d bytes, %d more than a bare server's %d",
				sent, guarded, guarded-base, base)
			assert.Less(t, guarded-base, int64(sent+16<<10))
		})
	}
}
