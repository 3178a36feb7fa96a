package middleware_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// bed is a Guard behind a real server on the false clock, and a client.
type bed struct {
	t      *testing.T
	rs     results
	guard  *middleware.Guard
	pipe   *pipeServer
	client *http.Client
}

func newBed(t *testing.T, guard *middleware.Guard, next http.Handler) *bed {
	b := &bed{t: t, guard: guard}
	guard.Verifier, guard.Observe = verifier(t), b.rs.observe
	b.pipe = servePipe(t, &http.Server{Handler: guard.Handler(next)})
	b.client = b.pipe.client(t)
	return b
}

// deliver posts a genuine delivery and returns the answer, its body and how
// long it took.
func (b *bed) deliver(body string) (*http.Response, string, time.Duration) {
	b.t.Helper()
	start := time.Now()
	resp, answer := do(b.t, b.client, post(b.t, "http://hooks/", body, sigHeader, sign(b.t, body)))
	return resp, answer, time.Since(start)
}

func (b *bed) outcomes() (all []middleware.Outcome) {
	synctest.Wait()
	for _, res := range b.rs.get() {
		all = append(all, res.Outcome)
	}
	return all
}

type handlerFunc = http.HandlerFunc

func TestInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(3900 * time.Millisecond)
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, "done")
		}))
		for range 2 {
			resp, answer, took := b.deliver("{}")
			assert.Equal(t, 202, resp.StatusCode)
			assert.Equal(t, "done", answer)
			assert.False(t, resp.Close)
			assert.Equal(t, 3900*time.Millisecond, took)
		}
		assert.Equal(t, []middleware.Outcome{middleware.Accepted, middleware.Accepted}, b.outcomes())
		time.Sleep(time.Hour)
		assert.Len(t, b.rs.get(), 2, "nobody is answered for later")
	})
}

func TestLate(t *testing.T) {
	tests := []struct {
		name     string
		deadline time.Duration
		want     time.Duration
	}{
		{"Haptik", 5 * time.Second, 4 * time.Second},
		{"SalesIQ", 10 * time.Second, 9 * time.Second},
		{"short", 2 * time.Second, 1500 * time.Millisecond},
		{"very short", 4 * time.Millisecond, 3 * time.Millisecond},
		{"long", time.Hour, time.Hour - time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended atomic.Bool
				b := newBed(t, &middleware.Guard{Contract: middleware.Contract{Sender: "x", Deadline: tt.deadline}}, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Early", "1")
					time.Sleep(2 * tt.deadline)
					assert.NoError(t, r.Context().Err())
					w.Header().Set("X-Late", "1")
					w.WriteHeader(http.StatusTeapot)
					n, err := io.WriteString(w, "too late")
					assert.Equal(t, 8, n)
					assert.NoError(t, err)
					d, ok := middleware.FromContext(r.Context())
					assert.True(t, ok)
					assert.Equal(t, "{}", string(d.Body))
					ended.Store(true)
				}))
				resp, answer, took := b.deliver("{}")
				assert.Equal(t, 200, resp.StatusCode)
				assert.Empty(t, answer)
				assert.Zero(t, resp.ContentLength)
				assert.Empty(t, resp.Header.Get("X-Early"))
				assert.True(t, resp.Close)
				assert.Equal(t, tt.want, took)
				assert.False(t, ended.Load())
				require.NoError(t, b.guard.Shutdown(t.Context()))
				assert.True(t, ended.Load(), "Shutdown waits for the handler")
				synctest.Wait()
				rs := b.rs.get()
				require.Len(t, rs, 2)
				assert.Equal(t, middleware.Late, rs[0].Outcome)
				assert.Equal(t, 200, rs[0].Status)
				assert.Equal(t, tt.want, rs[0].Elapsed)
				assert.Error(t, rs[0].Err)
				assert.False(t, rs[0].Afterwards)
				assert.True(t, rs[1].Afterwards)
				assert.Equal(t, middleware.LateDone, rs[1].Outcome)
				assert.Equal(t, http.StatusTeapot, rs[1].Status)
				assert.Equal(t, 2*tt.deadline, rs[1].Elapsed)
				assert.NoError(t, rs[1].Err)
			})
		})
	}
}

// sleepy takes longer than any deadline here.
var sleepy = handlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) })

func TestLateHandler(t *testing.T) {
	tests := []struct {
		name     string
		late     handlerFunc
		contract func(*middleware.Contract)
		status   int
		body     string
		outcome  middleware.Outcome
	}{
		{"answers", func(w http.ResponseWriter, r *http.Request) {
			d, ok := middleware.FromContext(r.Context())
			assert.True(t, ok)
			again, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			assert.Equal(t, d.Body, again)
			assert.NotEmpty(t, r.Header.Get(sigHeader))
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"action":"pending","of":%d}`, len(d.Body))
		}, nil, 200, `{"action":"pending","of":2}`, middleware.Late},
		{"says nothing", func(http.ResponseWriter, *http.Request) {}, nil, 200, "", middleware.Late},
		{"has a status of its own", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, nil, 202, "", middleware.Late},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, nil, 204, "", middleware.Late},
		{"panics", func(http.ResponseWriter, *http.Request) { panic("x") }, nil, 500, "Internal Server Error\n", middleware.Panicked},
		{"forbidden status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) },
			func(c *middleware.Contract) { c.Forbidden = []int{410} }, 500, "Internal Server Error\n", middleware.Forbidden},
		{"too large", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 11)) },
			func(c *middleware.Contract) { c.MaxResponse = 10 }, 500, "Internal Server Error\n", middleware.ResponseTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				contract := middleware.Haptik()
				if tt.contract != nil {
					tt.contract(&contract)
				}
				b := newBed(t, &middleware.Guard{Contract: contract, Late: tt.late}, sleepy)
				resp, answer, took := b.deliver("{}")
				assert.Equal(t, tt.status, resp.StatusCode)
				assert.Equal(t, tt.body, answer)
				assert.Equal(t, 4*time.Second, took)
				require.NoError(t, b.guard.Shutdown(t.Context()))
				assert.Equal(t, []middleware.Outcome{tt.outcome, middleware.LateDone}, b.outcomes())
			})
		})
	}
}

// TestLateCopiesTheHeader: Late and Observe look at the request while the
// handler changes it; the race detector sees it if they share it.
func TestLateCopiesTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := &middleware.Guard{Contract: middleware.Haptik(), Late: handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Empty(t, r.Header.Get("X-Changed"))
			w.Header().Set("X-Late", r.Header.Get(sigHeader))
		})}
		b := newBed(t, guard, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			stop := time.After(time.Minute)
			for i := 0; ; i++ {
				r.Header.Set("X-Changed", "1")
				w.Header().Set("X-Changed", "1")
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
		}))
		guard.Observe = func(r *http.Request, res middleware.Result) {
			if res.Outcome == middleware.Late {
				assert.Empty(t, r.Header.Get("X-Changed"))
			}
			b.rs.observe(r, res)
		}
		resp, _, _ := b.deliver("{}")
		assert.NotEmpty(t, resp.Header.Get("X-Late"))
		assert.Empty(t, resp.Header.Get("X-Changed"))
		require.NoError(t, guard.Shutdown(t.Context()))
	})
}

func TestHangUpDoesNotCancel(t *testing.T) {
	for _, when := range []time.Duration{time.Second, 6 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ended := false
			b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
				defer cancel()
				select {
				case <-ctx.Done():
					t.Error("cancelled")
				case <-time.After(time.Minute):
				}
				ended = true
			}))
			conn, err := b.pipe.dial(t.Context(), "", "")
			require.NoError(t, err)
			go io.Copy(io.Discard, conn)
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%s: %s\r\n\r\n{}", sigHeader, sign(t, "{}"))
			time.Sleep(when)
			conn.Close()
			require.NoError(t, b.guard.Shutdown(t.Context()))
			assert.True(t, ended)
		})
	}
}

func TestShutdown(t *testing.T) {
	t.Run("nothing runs", func(t *testing.T) {
		guard := &middleware.Guard{Verifier: verifier(t)}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		assert.NoError(t, guard.Shutdown(over))
		assert.NoError(t, guard.Shutdown(over))
	})
	for _, contract := range []middleware.Contract{{}, middleware.Haptik()} {
		t.Run("refuses with 503 afterwards", func(t *testing.T) {
			var rs results
			var handler seen
			guard := &middleware.Guard{Verifier: verifier(t), Contract: contract, Observe: rs.observe}
			require.NoError(t, guard.Shutdown(t.Context()))
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
			r.Header.Set(sigHeader, sign(t, "{}"))
			guard.Handler(&handler).ServeHTTP(w, r)
			assert.Equal(t, 503, w.Code)
			assert.Zero(t, handler.runs)
			assert.Equal(t, middleware.Overloaded, rs.only(t).Outcome)

			w = httptest.NewRecorder()
			guard.Handler(&handler).ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
			assert.Equal(t, 401, w.Code, "what does not verify is refused as ever")
		})
	}
	t.Run("gives up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			causes := make(map[string]error)
			b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				d, _ := middleware.FromContext(r.Context())
				ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
				defer cancel()
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				causes[string(d.Body)] = ctx.Err()
			}))
			b.deliver("one")
			b.deliver("two")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			start := time.Now()
			err := b.guard.Shutdown(ctx)
			assert.Equal(t, 30*time.Second, time.Since(start))
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "still run: 2")
			require.NoError(t, b.guard.Shutdown(t.Context()), "now they end")
			assert.Equal(t, map[string]error{"one": context.Canceled, "two": context.Canceled}, causes)
		})
	})
	t.Run("waits for handlers that are in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, &middleware.Guard{}, handlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }))
			go b.deliver("{}")
			synctest.Wait()
			start := time.Now()
			require.NoError(t, b.guard.Shutdown(t.Context()))
			assert.Equal(t, time.Second, time.Since(start))
			synctest.Wait()
		})
	})
}

func TestMaxLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, &middleware.Guard{Contract: middleware.Haptik(), MaxLate: 3}, sleepy)
		round := func() map[int]int {
			var mu sync.Mutex
			counts := make(map[int]int)
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					resp, _, took := b.deliver(fmt.Sprint(i))
					mu.Lock()
					defer mu.Unlock()
					counts[resp.StatusCode]++
					assert.Equal(t, 4*time.Second, took)
				})
			}
			wg.Wait()
			return counts
		}
		assert.Equal(t, map[int]int{200: 3, 503: 7}, round())
		assert.Equal(t, map[int]int{503: 10}, round(), "none has ended yet")
		time.Sleep(2 * time.Minute)
		assert.Equal(t, map[int]int{200: 3, 503: 7}, round(), "they have")
		counts := make(map[middleware.Outcome]int)
		for _, o := range b.outcomes() {
			counts[o]++
		}
		assert.Equal(t, 6, counts[middleware.Late])
		assert.Equal(t, 24, counts[middleware.Overloaded])
		require.NoError(t, b.guard.Shutdown(t.Context()))
	})
}

// TestToldInOrder: a handler that ends while Observe is being told of the late
// answer is told of after that.
func TestToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []middleware.Outcome
		guard := &middleware.Guard{Contract: middleware.Haptik()}
		b := newBed(t, guard, handlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(4*time.Second + 1) }))
		guard.Observe = func(_ *http.Request, res middleware.Result) {
			if res.Outcome == middleware.Late {
				time.Sleep(time.Second)
			}
			mu.Lock()
			defer mu.Unlock()
			order = append(order, res.Outcome)
			assert.Equal(t, len(order) == 2, res.Afterwards)
		}
		b.deliver("{}")
		require.NoError(t, guard.Shutdown(t.Context()))
		assert.Equal(t, []middleware.Outcome{middleware.Late, middleware.LateDone}, order)
	})
}

func TestPanicAfterTheAnswer(t *testing.T) {
	for name, value := range map[string]any{"panic": "x", "abort": http.ErrAbortHandler} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, handlerFunc(func(http.ResponseWriter, *http.Request) {
					time.Sleep(time.Minute)
					panic(value)
				}))
				resp, _, _ := b.deliver("{}")
				assert.Equal(t, 200, resp.StatusCode)
				require.NoError(t, b.guard.Shutdown(t.Context()))
				assert.Equal(t, []middleware.Outcome{middleware.Late, middleware.Panicked}, b.outcomes())
			})
		})
	}
}

// TestExitedGoroutine: runtime.Goexit, which a test's FailNow is, loses
// nothing.
func TestExitedGoroutine(t *testing.T) {
	var rs results
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Haptik(), Observe: rs.observe}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	r.Header.Set(sigHeader, sign(t, "{}"))
	guard.Handler(handlerFunc(func(http.ResponseWriter, *http.Request) { runtime.Goexit() })).ServeHTTP(w, r)
	assert.Equal(t, 500, w.Code)
	assert.Equal(t, middleware.Panicked, rs.only(t).Outcome)
	assert.NoError(t, guard.Shutdown(t.Context()))
}

func TestPanickingObserve(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	for _, contract := range []middleware.Contract{{}, middleware.Haptik()} {
		guard := &middleware.Guard{Verifier: verifier(t), Contract: contract, Observe: func(*http.Request, middleware.Result) { panic("x") }}
		for _, value := range []string{sign(t, "{}"), "sha1="} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
			r.Header.Set(sigHeader, value)
			assert.NotPanics(t, func() { guard.Handler(http.NotFoundHandler()).ServeHTTP(w, r) })
			assert.Contains(t, []int{401, 404}, w.Code)
		}
		assert.NoError(t, guard.Shutdown(t.Context()))
	}
}

func TestForbiddenAndTooLarge(t *testing.T) {
	write := func(n int) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Own", "1")
			for range n {
				if _, err := io.WriteString(w, "x"); err != nil {
					return
				}
			}
		}
	}
	status := func(s int) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "own", s) }
	}
	limited := middleware.Contract{MaxResponse: 100}
	tests := []struct {
		name     string
		contract middleware.Contract
		handler  handlerFunc
		status   int
		outcome  middleware.Outcome
	}{
		{"of the limit", limited, write(100), 200, middleware.Accepted},
		{"a byte more", limited, write(101), 500, middleware.ResponseTooLarge},
		{"in one piece", limited, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1000)) }, 500, middleware.ResponseTooLarge},
		{"after a large piece a small one", limited, func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, 1000))
			w.Write(make([]byte, 1))
		}, 500, middleware.ResponseTooLarge},
		{"ConvoKraft", middleware.ConvoKraft(), write(100_001), 500, middleware.ResponseTooLarge},
		{"410", middleware.SalesIQ(), status(410), 500, middleware.Forbidden},
		{"410 where it is allowed", middleware.Haptik(), status(410), 410, middleware.Accepted},
		{"500 forbidden too", middleware.Contract{Forbidden: []int{410, 500}}, status(410), 503, middleware.Forbidden},
		{"panic where 500 is forbidden", middleware.Contract{Forbidden: []int{500}}, func(http.ResponseWriter, *http.Request) { panic("x") }, 503, middleware.Panicked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rs results
			guard := &middleware.Guard{Verifier: verifier(t), Contract: tt.contract, Observe: rs.observe}
			srv := httptest.NewServer(guard.Handler(tt.handler))
			defer srv.Close()
			resp, answer := do(t, srv.Client(), post(t, srv.URL, "{}", sigHeader, sign(t, "{}")))
			assert.Equal(t, tt.status, resp.StatusCode)
			res := rs.only(t)
			assert.Equal(t, tt.outcome, res.Outcome)
			assert.Equal(t, tt.status, res.Status)
			if tt.outcome != middleware.Accepted {
				assert.Error(t, res.Err)
				assert.Equal(t, http.StatusText(tt.status)+"\n", answer)
				assert.Empty(t, resp.Header.Get("X-Own"))
			}
		})
	}
	t.Run("the Guard's own answers", func(t *testing.T) {
		guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Contract{Forbidden: []int{401}}, Observe: new(results).observe}
		w := httptest.NewRecorder()
		guard.Handler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
		assert.Equal(t, 500, w.Code)
	})
}

// TestPassedOnUnchanged compares what clients get with and without a Guard.
func TestPassedOnUnchanged(t *testing.T) {
	handlers := map[string]handlerFunc{
		"nothing":     func(http.ResponseWriter, *http.Request) {},
		"header only": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "1") },
		"status only": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) },
		"body only":   func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(202)
			io.WriteString(w, `{"a":`)
			w.Write([]byte(`1}`))
		},
		"several values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Set-Cookie", "a=1")
			w.Header().Add("Set-Cookie", "b=2")
		},
		"header too late": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", "1")
			w.WriteHeader(200)
			w.Header().Set("X-A", "2")
			w.Header().Set("X-B", "2")
		},
		"outer header changed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Outer", w.Header().Get("X-Outer")+" and inner")
		},
		"outer header removed": func(w http.ResponseWriter, _ *http.Request) { w.Header().Del("X-Outer") },
		"two statuses":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400); w.WriteHeader(200) },
		"204":                  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); io.WriteString(w, "x") },
		"304":                  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304); w.Write([]byte("x")) },
		"own length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "abc")
		},
		"large":      func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 50_000)) },
		"no date":    func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil },
		"close":      func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
		"http.Error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "own text", http.StatusConflict) },
	}
	outer := func(next http.Handler) http.Handler {
		return handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Outer", "outer")
			next.ServeHTTP(w, r)
		})
	}
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Haptik(), Observe: new(results).observe}
	for _, http2 := range []bool{false, true} {
		for name, handler := range handlers {
			t.Run(fmt.Sprint(name, " ", http2), func(t *testing.T) {
				var got [2]string
				for i, h := range []http.Handler{outer(handler), outer(guard.Handler(handler))} {
					srv := httptest.NewUnstartedServer(h)
					srv.Config.ErrorLog = discard
					srv.EnableHTTP2 = http2
					srv.StartTLS()
					resp, body := do(t, srv.Client(), post(t, srv.URL, "{}", sigHeader, sign(t, "{}")))
					srv.Close()
					hasDate := resp.Header.Get("Date") != ""
					resp.Header.Del("Date")
					got[i] = fmt.Sprint(resp.Proto, resp.Status, resp.Header, resp.ContentLength, resp.TransferEncoding, resp.Close, hasDate, body)
				}
				assert.Equal(t, got[0], got[1])
			})
		}
	}
}

// wrapped hides the server's writer as logging middleware does, and flushes
// nothing.
type wrapped struct{ http.ResponseWriter }

// TestLateOverRealConnections measures the late answer on loopback, and sends
// the sender's next delivery over the same connection while the handler of the
// first still runs.
func TestLateOverRealConnections(t *testing.T) {
	const deadline = 600 * time.Millisecond
	tests := []struct {
		name  string
		http2 bool
		wrap  bool
	}{
		{"HTTP/1.1", false, false},
		{"HTTP/1.1, wrapped", false, true},
		{"HTTP/2", true, false},
		{"HTTP/2, wrapped", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Contract{Deadline: deadline}, Observe: new(results).observe}
			var conns atomic.Int64
			handler := guard.Handler(handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if d, _ := middleware.FromContext(r.Context()); string(d.Body) == "slow" {
					<-release
				}
			}))
			srv := httptest.NewUnstartedServer(handlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.wrap {
					w = wrapped{w}
				}
				handler.ServeHTTP(w, r)
			}))
			srv.EnableHTTP2 = tt.http2
			srv.StartTLS()
			defer srv.Close()
			defer func() { require.NoError(t, guard.Shutdown(t.Context())) }()
			defer close(release)
			client := srv.Client()
			transport := client.Transport.(*http.Transport)
			dialer := &tls.Dialer{Config: transport.TLSClientConfig}
			transport.DialTLSContext = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
				conns.Add(1)
				return dialer.DialContext(ctx, network, addr)
			}
			if tt.http2 {
				transport.DialTLSContext = nil
			}

			start := time.Now()
			resp, _ := do(t, client, post(t, srv.URL, "slow", sigHeader, sign(t, "slow")))
			took := time.Since(start)
			assert.Equal(t, 200, resp.StatusCode)
			assert.Equal(t, tt.http2, resp.ProtoMajor == 2)
			assert.Less(t, took, deadline)
			assert.Greater(t, took, deadline/2)

			start = time.Now()
			resp, _ = do(t, client, post(t, srv.URL, "quick", sigHeader, sign(t, "quick")))
			assert.Equal(t, 200, resp.StatusCode)
			assert.Less(t, time.Since(start), deadline/2, "the next delivery was held up")
		})
	}
}

func TestLateUnderLoad(t *testing.T) {
	const n, deadline = 200, 2 * time.Second
	var rs results
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Contract{Deadline: deadline}, Observe: rs.observe}
	release := make(chan struct{})
	srv := httptest.NewServer(guard.Handler(handlerFunc(func(http.ResponseWriter, *http.Request) { <-release })))
	before := runtime.NumGoroutine()
	heap := liveHeap()
	value := sign(t, "{}")
	var mu sync.Mutex
	var slowest time.Duration
	late := 0
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			r := post(t, srv.URL, "{}", sigHeader, value)
			start := time.Now()
			resp, err := srv.Client().Do(r)
			took := time.Since(start)
			if !assert.NoError(t, err) {
				return
			}
			resp.Body.Close()
			assert.Equal(t, 200, resp.StatusCode)
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
			if took >= deadline {
				late++
			}
		})
	}
	wg.Wait()
	during := runtime.NumGoroutine()
	close(release)
	require.NoError(t, guard.Shutdown(t.Context()))
	srv.Close()
	srv.Client().CloseIdleConnections()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before }, 10*time.Second, 10*time.Millisecond)
	t.Logf("%d simultaneous slow deliveries, deadline %v: slowest answer after %v, %d too late; goroutines %d before, %d during, %d after; live heap %d KiB before, %d KiB after",
		n, deadline, slowest, late, before, during, runtime.NumGoroutine(), heap>>10, liveHeap()>>10)
	assert.Zero(t, late)
	assert.Len(t, rs.get(), 2*n)
}

func TestContextValues(t *testing.T) {
	type key struct{}
	for _, contract := range []middleware.Contract{{}, middleware.Haptik()} {
		guard := &middleware.Guard{Verifier: verifier(t), Contract: contract, Observe: new(results).observe}
		r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
		r.Header.Set(sigHeader, sign(t, "{}"))
		ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "outer"))
		cancel(errors.New("the client has gone"))
		ran := false
		guard.Handler(handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			ran = true
			assert.Equal(t, "outer", r.Context().Value(key{}))
			assert.Nil(t, r.Context().Value("unknown"))
			_, hasDeadline := r.Context().Deadline()
			assert.False(t, hasDeadline)
			assert.Equal(t, contract.Deadline > 0, r.Context().Err() == nil)
			for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
				assert.Equal(t, "middleware.context", fmt.Sprintf(format, r.Context()))
			}
			child, cancel := context.WithCancel(r.Context())
			assert.Equal(t, contract.Deadline > 0, child.Err() == nil)
			cancel()
		})).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		assert.True(t, ran)
	}
}
