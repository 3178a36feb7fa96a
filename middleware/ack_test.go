package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

var errAway = errors.New("the queue is away")

func TestAck(t *testing.T) {
	// A put returns what heeds says when it is asked to stop, or result after
	// takes.
	put := func(takes time.Duration, heeds bool, result error) func(context.Context, *middleware.Delivery) error {
		return func(ctx context.Context, d *middleware.Delivery) error {
			if !heeds {
				time.Sleep(takes)
				return result
			}
			select {
			case <-time.After(takes):
				return result
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	const never = time.Hour
	tests := []struct {
		name     string
		deadline time.Duration
		put      func(context.Context, *middleware.Delivery) error
		status   int
		took     time.Duration
		outcomes []middleware.Outcome // the last ones if there are several
		wantErr  error
	}{
		{"at once", 5 * time.Second, put(0, true, nil), 200, 0, []middleware.Outcome{middleware.Accepted}, nil},
		{"in time", 5 * time.Second, put(3*time.Second, true, nil), 200, 3 * time.Second, []middleware.Outcome{middleware.Accepted}, nil},
		{"fails", 5 * time.Second, put(0, true, errAway), 503, 0, []middleware.Outcome{middleware.Accepted}, errAway},
		{"full", 5 * time.Second, put(0, true, middleware.ErrPoolFull), 503, 0, []middleware.Outcome{middleware.Accepted}, middleware.ErrPoolFull},
		{"no deadline", 0, put(time.Hour, true, nil), 200, time.Hour, []middleware.Outcome{middleware.Accepted}, nil},
		{"no deadline, fails", 0, put(time.Hour, true, errAway), 503, time.Hour, []middleware.Outcome{middleware.Accepted}, errAway},
		{"does not heed, succeeds too late", 5 * time.Second, put(7*time.Second, false, nil), 503, 4 * time.Second, []middleware.Outcome{middleware.Late, middleware.LateDone}, nil},
		{"does not heed, fails too late", 5 * time.Second, put(7*time.Second, false, errAway), 503, 4 * time.Second, []middleware.Outcome{middleware.Late, middleware.LateDone}, errAway},
		{"panics", 5 * time.Second, func(context.Context, *middleware.Delivery) error { panic("x") }, 500, 0, []middleware.Outcome{middleware.Panicked}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, &middleware.Guard{
					Contract: middleware.Contract{Deadline: tt.deadline},
					Late:     handlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("Late answered for Ack") }),
				}, middleware.Ack(tt.put))
				resp, answer, took := b.deliver("{}")
				assert.Equal(t, tt.status, resp.StatusCode)
				assert.Equal(t, tt.took, took)
				if tt.status == 200 {
					assert.Empty(t, answer)
				} else {
					assert.Equal(t, http.StatusText(tt.status)+"\n", answer, "no inner text")
				}
				require.NoError(t, b.guard.Shutdown(t.Context()))
				assert.Equal(t, tt.outcomes, b.outcomes())
				rs := b.rs.get()
				if tt.wantErr != nil {
					assert.ErrorIs(t, rs[len(rs)-1].Err, tt.wantErr)
				}
			})
		})
	}
	// With a put that heeds its context, its end and the late answer come at
	// the same moment, and either may be first: 503 both ways.
	t.Run("heeds its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, middleware.Ack(put(never, true, nil)))
			resp, _, took := b.deliver("{}")
			assert.Equal(t, 503, resp.StatusCode)
			assert.Equal(t, 4*time.Second, took)
			synctest.Wait()
			start := time.Now()
			require.NoError(t, b.guard.Shutdown(t.Context()))
			assert.Zero(t, time.Since(start), "put has returned")
			rs := b.rs.get()
			assert.ErrorIs(t, rs[len(rs)-1].Err, context.DeadlineExceeded)
		})
	})
	assert.Panics(t, func() { middleware.Ack(nil) })
}

// TestAckBehindAnotherHandler: Ack is wrapped by handlers of the user's.
func TestAckBehindAnotherHandler(t *testing.T) {
	type key struct{}
	delayed := func(d time.Duration, next http.Handler) http.Handler {
		return handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(d)
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "inner")))
		})
	}
	t.Run("quick", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, delayed(time.Second, middleware.Ack(func(ctx context.Context, _ *middleware.Delivery) error {
				assert.Equal(t, "inner", ctx.Value(key{}))
				due, ok := ctx.Deadline()
				assert.True(t, ok)
				assert.Equal(t, 3*time.Second, time.Until(due))
				time.Sleep(time.Minute)
				return nil
			})))
			resp, _, took := b.deliver("{}")
			assert.Equal(t, 503, resp.StatusCode)
			assert.Equal(t, 4*time.Second, took)
			require.NoError(t, b.guard.Shutdown(t.Context()))
		})
	})
	t.Run("too slow: 200 has left, so put gets the delivery with time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			kept := false
			b := newBed(t, &middleware.Guard{Contract: middleware.Haptik()}, delayed(6*time.Second, middleware.Ack(func(ctx context.Context, _ *middleware.Delivery) error {
				_, ok := ctx.Deadline()
				assert.False(t, ok)
				assert.NoError(t, ctx.Err())
				kept = true
				return nil
			})))
			resp, _, _ := b.deliver("{}")
			assert.Equal(t, 200, resp.StatusCode)
			require.NoError(t, b.guard.Shutdown(t.Context()))
			assert.True(t, kept)
		})
	})
}

// TestBodyAfterTheAnswerIsDue: the body may take all of the deadline, and then
// there is no time left for a handler.
func TestBodyAfterTheAnswerIsDue(t *testing.T) {
	counting := func(runs *atomic.Int64) http.Handler {
		return handlerFunc(func(http.ResponseWriter, *http.Request) {
			time.Sleep(time.Second)
			runs.Add(1)
		})
	}
	acking := func(runs *atomic.Int64) http.Handler {
		return middleware.Ack(func(context.Context, *middleware.Delivery) error {
			runs.Add(1)
			return nil
		})
	}
	for _, tt := range []struct {
		name     string
		next     func(runs *atomic.Int64) http.Handler
		store    bool
		status   int
		runs     int64
		outcomes []middleware.Outcome
	}{
		{"handler", counting, false, 200, 1, []middleware.Outcome{middleware.Late, middleware.LateDone}},
		{"Ack behind another handler", func(runs *atomic.Int64) http.Handler {
			return handlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Millisecond)
				acking(runs).ServeHTTP(w, r)
			})
		}, false, 200, 1, []middleware.Outcome{middleware.Late, middleware.LateDone}},
		{"handler with a Store", counting, true, 503, 0, []middleware.Outcome{middleware.Late, middleware.Pending}},
		{"Ack with a Store", acking, true, 503, 0, []middleware.Outcome{middleware.Late, middleware.Pending}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int64
				guard := &middleware.Guard{Contract: middleware.Haptik()}
				if tt.store {
					// The late answer is there before the Store's.
					store := newStore()
					store.claim = func(ctx context.Context, id string) (middleware.State, error) {
						time.Sleep(time.Millisecond)
						return store.Store.Claim(ctx, id)
					}
					guard.Store = store
				}
				b := newBed(t, guard, tt.next(&runs))
				conn, err := b.pipe.dial(t.Context(), "", "")
				require.NoError(t, err)
				defer conn.Close()
				go func() {
					fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%s: %s\r\n\r\n{", sigHeader, sign(t, "{}"))
					time.Sleep(4500 * time.Millisecond)
					io.WriteString(conn, "}")
				}()
				start := time.Now()
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				assert.Equal(t, tt.status, resp.StatusCode)
				assert.Equal(t, 4500*time.Millisecond, time.Since(start))
				require.NoError(t, b.guard.Shutdown(t.Context()))
				assert.Equal(t, tt.runs, runs.Load())
				assert.Equal(t, tt.outcomes, b.outcomes())
			})
		})
	}
	// Ack itself: whether it or the timer is first, the answer is no 200 that
	// is not put's.
	t.Run("Ack at the very moment", func(t *testing.T) {
		for range 200 {
			synctest.Test(t, func(t *testing.T) {
				var kept atomic.Int64
				b := newBed(t, &middleware.Guard{Contract: middleware.Contract{Deadline: 4 * time.Nanosecond}}, middleware.Ack(func(context.Context, *middleware.Delivery) error {
					kept.Add(1)
					return nil
				}))
				resp, _, _ := b.deliver("{}")
				require.NoError(t, b.guard.Shutdown(t.Context()))
				if resp.StatusCode == 200 {
					assert.EqualValues(t, 1, kept.Load())
				} else {
					assert.Equal(t, 503, resp.StatusCode)
				}
			})
		}
	})
}

func TestAckWithoutAGuard(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	middleware.Ack(func(context.Context, *middleware.Delivery) error {
		t.Error("put was called")
		return nil
	}).ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
	assert.Equal(t, 500, w.Code)
}

// fakeStore counts calls and does what a test says.
type fakeStore struct {
	middleware.Store
	claims, settles atomic.Int64
	claim           func(ctx context.Context, id string) (middleware.State, error)
	settle          func(ctx context.Context, id string, done bool) error
}

func (s *fakeStore) Claim(ctx context.Context, id string) (middleware.State, error) {
	s.claims.Add(1)
	if s.claim != nil {
		return s.claim(ctx, id)
	}
	return s.Store.Claim(ctx, id)
}

func (s *fakeStore) Settle(ctx context.Context, id string, done bool) error {
	s.settles.Add(1)
	if s.settle != nil {
		return s.settle(ctx, id, done)
	}
	return s.Store.Settle(ctx, id, done)
}

func newStore() *fakeStore {
	return &fakeStore{Store: middleware.NewMemoryStore(time.Hour, 1000)}
}

func TestStoreIsNotAskedAboutForgeries(t *testing.T) {
	store := newStore()
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.SalesIQ(), Store: store, MaxBody: 10, Observe: new(results).observe}
	handler := guard.Handler(http.NotFoundHandler())
	for _, r := range []*http.Request{
		post(t, "/", "{}"),
		post(t, "/", "{}", sigHeader, "sha1="),
		post(t, "/", "{ }", sigHeader, sign(t, "{}")),
		post(t, "/", strings.Repeat("x", 11), sigHeader, sign(t, strings.Repeat("x", 11))),
		request(t, "HEAD", "/", nil),
		request(t, "GET", "/", nil, sigHeader, sign(t, "")),
	} {
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	assert.Zero(t, store.claims.Load())
	assert.Zero(t, store.settles.Load())
}

// TestRetries sends the same delivery again after its handler has ended in
// each way.
func TestRetries(t *testing.T) {
	status := func(s int) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(s) }
	}
	tests := []struct {
		name     string
		contract middleware.Contract
		first    http.Handler
		status   int
		runs     int64 // after the retry
		retry    int
	}{
		{"200", middleware.Contract{}, status(200), 200, 1, 200},
		{"204", middleware.Contract{}, status(204), 204, 1, 200},
		{"nothing", middleware.Contract{}, handlerFunc(func(http.ResponseWriter, *http.Request) {}), 200, 1, 200},
		{"a redirect", middleware.Contract{}, status(302), 302, 2, 302},
		{"400", middleware.Contract{}, status(400), 400, 2, 400},
		{"500", middleware.Contract{}, status(500), 500, 2, 500},
		{"panic", middleware.Contract{}, handlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }), 500, 2, 500},
		{"forbidden", middleware.SalesIQ(), status(410), 500, 2, 500},
		{"too large", middleware.Contract{MaxResponse: 1}, handlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "xx") }), 500, 2, 500},
		{"kept", middleware.Haptik(), middleware.Ack(func(context.Context, *middleware.Delivery) error { return nil }), 200, 1, 200},
		{"not kept", middleware.Haptik(), middleware.Ack(func(context.Context, *middleware.Delivery) error { return errAway }), 503, 2, 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rs results
			var runs atomic.Int64
			guard := &middleware.Guard{Verifier: verifier(t), Contract: tt.contract, Store: newStore(), Observe: rs.observe}
			srv := httptest.NewServer(guard.Handler(handlerFunc(func(w http.ResponseWriter, r *http.Request) {
				runs.Add(1)
				tt.first.ServeHTTP(w, r)
			})))
			defer srv.Close()
			client := srv.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			send := func(body string) int {
				resp, _ := do(t, client, post(t, srv.URL, body, sigHeader, sign(t, body)))
				return resp.StatusCode
			}
			assert.Equal(t, tt.status, send("{}"))
			assert.Equal(t, tt.retry, send("{}"))
			assert.Equal(t, tt.runs, runs.Load())
			assert.Equal(t, tt.status, send("{ }"), "another delivery runs")
			assert.Equal(t, tt.runs+1, runs.Load())
			wantRetry := middleware.Repeated
			if tt.runs == 2 {
				wantRetry = rs.get()[0].Outcome
			}
			assert.Equal(t, wantRetry, rs.get()[1].Outcome)
		})
	}
}

func TestFiftyCopiesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		store := newStore()
		b := newBed(t, &middleware.Guard{Contract: middleware.Haptik(), Store: store}, handlerFunc(func(http.ResponseWriter, *http.Request) {
			runs.Add(1)
			time.Sleep(time.Second)
		}))
		statuses := make(chan int, 50)
		for range 50 {
			go func() {
				resp, _, _ := b.deliver("{}")
				statuses <- resp.StatusCode
			}()
		}
		counts := make(map[int]int)
		for range 50 {
			counts[<-statuses]++
		}
		assert.Equal(t, map[int]int{200: 1, 503: 49}, counts)
		assert.EqualValues(t, 1, runs.Load())
		resp, _, _ := b.deliver("{}")
		assert.Equal(t, 200, resp.StatusCode)
		assert.EqualValues(t, 1, runs.Load())
		assert.EqualValues(t, 1, store.settles.Load())
	})
}

// TestLateHandlerSettles: what counts is how it ends, not what was answered
// for it.
func TestLateHandlerSettles(t *testing.T) {
	for _, tt := range []struct {
		name  string
		own   int
		after int // what a retry gets
		runs  int64
	}{
		{"done", 200, 200, 1},
		{"failed", 500, 200, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int64
				b := newBed(t, &middleware.Guard{Contract: middleware.Haptik(), Store: newStore()}, handlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					runs.Add(1)
					time.Sleep(time.Minute)
					w.WriteHeader(tt.own)
				}))
				resp, _, took := b.deliver("{}")
				assert.Equal(t, 200, resp.StatusCode)
				assert.Equal(t, 4*time.Second, took)
				resp, _, took = b.deliver("{}")
				assert.Equal(t, 503, resp.StatusCode, "it still runs")
				assert.Zero(t, took)
				time.Sleep(2 * time.Minute)
				resp, _, _ = b.deliver("{}")
				assert.Equal(t, tt.after, resp.StatusCode)
				assert.Equal(t, tt.runs, runs.Load())
				require.NoError(t, b.guard.Shutdown(t.Context()))
			})
		})
	}
	t.Run("kept too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			puts := 0
			b := newBed(t, &middleware.Guard{Contract: middleware.Haptik(), Store: newStore()}, middleware.Ack(func(context.Context, *middleware.Delivery) error {
				puts++
				time.Sleep(6 * time.Second)
				return nil
			}))
			resp, _, _ := b.deliver("{}")
			assert.Equal(t, 503, resp.StatusCode)
			time.Sleep(5 * time.Second)
			resp, _, _ = b.deliver("{}")
			assert.Equal(t, 200, resp.StatusCode, "it was kept after all")
			assert.Equal(t, 1, puts)
		})
	})
}

func TestFailingStore(t *testing.T) {
	errStore := errors.New("the store is away")
	block := func(ctx context.Context, _ string) (middleware.State, error) {
		<-ctx.Done()
		return middleware.Fresh, ctx.Err()
	}
	ignore := func(context.Context, string) (middleware.State, error) {
		time.Sleep(time.Minute)
		return middleware.Fresh, nil
	}
	tests := []struct {
		name    string
		claim   func(context.Context, string) (middleware.State, error)
		settle  func(context.Context, string, bool) error
		status  int
		took    time.Duration
		runs    int64
		settles int64
		last    middleware.Outcome
		wantErr error
	}{
		{"Claim fails", func(context.Context, string) (middleware.State, error) { return middleware.Done, errStore }, nil,
			200, 0, 1, 0, middleware.Accepted, errStore},
		{"Claim hangs until its context ends", block, nil, 200, 2 * time.Second, 1, 0, middleware.Accepted, context.DeadlineExceeded},
		{"Claim hangs", ignore, nil, 503, 4 * time.Second, 0, 1, middleware.Pending, nil},
		{"Claim knows no such state", func(context.Context, string) (middleware.State, error) { return 9, nil }, nil, 503, 0, 0, 0, middleware.Pending, nil},
		{"Claim panics", func(context.Context, string) (middleware.State, error) { panic("x") }, nil, 500, 0, 0, 0, middleware.Panicked, nil},
		{"Settle fails", nil, func(context.Context, string, bool) error { return errStore }, 200, 0, 1, 1, middleware.Accepted, errStore},
		{"Settle panics", nil, func(context.Context, string, bool) error { panic("x") }, 200, 0, 1, 1, middleware.Accepted, nil},
		{"Settle hangs", nil, func(ctx context.Context, _ string, _ bool) error { <-ctx.Done(); return ctx.Err() },
			200, 4 * time.Second, 1, 1, middleware.LateDone, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int64
				store := newStore()
				store.claim, store.settle = tt.claim, tt.settle
				b := newBed(t, &middleware.Guard{Contract: middleware.Haptik(), Store: store}, handlerFunc(func(http.ResponseWriter, *http.Request) {
					runs.Add(1)
				}))
				resp, _, took := b.deliver("{}")
				assert.Equal(t, tt.status, resp.StatusCode)
				assert.Equal(t, tt.took, took)
				require.NoError(t, b.guard.Shutdown(t.Context()))
				synctest.Wait()
				rs := b.rs.get()
				last := rs[len(rs)-1]
				assert.Equal(t, tt.last, last.Outcome)
				assert.Equal(t, tt.runs, runs.Load())
				assert.Equal(t, tt.settles, store.settles.Load())
				if tt.wantErr != nil {
					assert.ErrorIs(t, last.Err, tt.wantErr)
				}
			})
		})
	}
}
