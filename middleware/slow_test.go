package middleware_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// TestSlowBody: a body that does not arrive is cut off at the contract's
// deadline, on the clock of net/http itself.
func TestSlowBody(t *testing.T) {
	tests := []struct {
		name     string
		contract middleware.Contract
		server   *http.Server
		head     string
		trickle  time.Duration // between bytes; 0: none come
		wait     time.Duration // until the answer
		status   int
	}{
		{"nothing comes", middleware.Haptik(), &http.Server{}, "POST", 0, 5 * time.Second, 408},
		{"it trickles", middleware.Haptik(), &http.Server{}, "POST", time.Second, 5 * time.Second, 408},
		{"no deadline in the contract", middleware.Contract{}, &http.Server{}, "POST", 0, 10 * time.Second, 408},
		{"ten seconds", middleware.SalesIQ(), &http.Server{}, "POST", time.Second, 10 * time.Second, 408},
		{"the server's limit is shorter", middleware.SalesIQ(), &http.Server{ReadTimeout: 3 * time.Second}, "POST", 0, 3 * time.Second, 408},
		{"the server's limit is longer", middleware.Haptik(), &http.Server{ReadTimeout: time.Minute}, "POST", 0, 5 * time.Second, 408},
		{"another method is answered at once", middleware.Haptik(), &http.Server{}, "PUT", 0, 0, 405},
		{"a probe is answered at once", middleware.Contract{Probe: []string{"GET"}}, &http.Server{}, "GET", 0, 0, 200},
	}
	for _, framing := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		for _, tt := range tests {
			t.Run(framing+"/"+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var rs results
					guard := &middleware.Guard{Verifier: verifier(t), Contract: tt.contract, Observe: rs.observe}
					srv := &http.Server{ReadTimeout: tt.server.ReadTimeout}
					srv.Handler = guard.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
						t.Error("the handler ran")
					}))
					p := servePipe(t, srv)
					conn, err := p.dial(t.Context(), "", "")
					require.NoError(t, err)
					start := time.Now()
					var sender sync.WaitGroup
					defer sender.Wait()
					defer conn.Close()
					sender.Go(func() {
						fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\n%s\r\n%s: %s\r\n\r\n", tt.head, framing, sigHeader, sign(t, "x"))
						for tt.trickle > 0 {
							time.Sleep(tt.trickle)
							piece := "x"
							if strings.HasSuffix(framing, "chunked") {
								piece = "1\r\nx\r\n"
							}
							if _, err := io.WriteString(conn, piece); err != nil {
								return
							}
						}
					})
					resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
					require.NoError(t, err)
					assert.Equal(t, tt.status, resp.StatusCode)
					assert.Equal(t, tt.wait, time.Since(start))
					assert.True(t, resp.Close, "the connection is of no further use")
					synctest.Wait()
					res := rs.get()[0]
					assert.Equal(t, tt.status, res.Status)
					if tt.status == 408 {
						assert.ErrorIs(t, res.Err, middleware.ErrTooSlow)
						assert.Equal(t, middleware.TooSlow, res.Outcome)
						assert.Equal(t, tt.wait, res.Elapsed)
					}
				})
			})
		}
	}
}

// TestReadDeadlineIsLifted: once the body is there, neither the handler nor
// the next request on the connection feels the limit that it had.
func TestReadDeadlineIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := &middleware.Guard{Verifier: verifier(t), Observe: new(results).observe}
		var remote []string
		p := servePipe(t, &http.Server{Handler: guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			remote = append(remote, fmt.Sprint(r.Context().Value(connKey{})))
			select {
			case <-time.After(time.Hour):
			case <-r.Context().Done():
				t.Error("the request's context was cancelled")
			}
		})), ConnContext: numberConns()})
		client := p.client(t)
		for range 3 {
			resp, _ := do(t, client, post(t, "http://hooks/", "{}", sigHeader, sign(t, "{}")))
			assert.Equal(t, 200, resp.StatusCode)
			time.Sleep(time.Minute)
		}
		assert.Equal(t, []string{"1", "1", "1"}, remote, "the connection was reused")
	})
}

type connKey struct{}

// numberConns lets handlers tell connections apart.
func numberConns() func(context.Context, net.Conn) context.Context {
	n := 0
	return func(ctx context.Context, _ net.Conn) context.Context {
		n++
		return context.WithValue(ctx, connKey{}, n)
	}
}

// TestRefusalKeepsTheConnection: a refused delivery that was read to its end
// does not cost the next one a connection.
func TestRefusalKeepsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := &middleware.Guard{Verifier: verifier(t), Observe: new(results).observe}
		conns := 0
		p := servePipe(t, &http.Server{
			Handler:     guard.Handler(http.NotFoundHandler()),
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context { conns++; return ctx },
		})
		client := p.client(t)
		for _, r := range []*http.Request{
			post(t, "http://hooks/", strings.Repeat("x", 100_000), sigHeader, "sha1="),
			request(t, "GET", "http://hooks/", nil),
			post(t, "http://hooks/", "{}"),
		} {
			resp, _ := do(t, client, r)
			assert.NotEqual(t, 200, resp.StatusCode)
		}
		assert.Equal(t, 1, conns)
	})
}
