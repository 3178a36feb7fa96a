package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
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

// Every test below runs in a bubble of testing/synctest, which ends only when
// all goroutines in it have ended: no Pool leaves one behind.

var errWork = errors.New("work failed on purpose")

// numbered returns a delivery of its own ID.
func numbered(i int) *middleware.Delivery {
	return &middleware.Delivery{
		Sender: "haptik",
		Body:   fmt.Appendf(nil, "the visitor's words %d", i),
		Header: http.Header{sigHeader: {"sha1=0123456789"}},
	}
}

// givenUp collects what Failed is told.
type givenUp struct {
	mu   sync.Mutex
	errs map[*middleware.Delivery][]error
	list []*middleware.Delivery
}

func (g *givenUp) add(d *middleware.Delivery, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.errs == nil {
		g.errs = make(map[*middleware.Delivery][]error)
	}
	g.errs[d] = append(g.errs[d], err)
	g.list = append(g.list, d)
}

// calls returns how often Failed has been called.
func (g *givenUp) calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.list)
}

// defaultLog sends what slog.Default() and the log package write to h for as
// long as the test runs.
func defaultLog(t *testing.T, h slog.Handler) {
	before, writer, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(h))
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(writer)
		log.SetFlags(flags)
	})
}

func every(pause time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return pause }
}

// after returns a context that ends after d.
func after(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestNewPoolWithoutWork(t *testing.T) {
	assert.Panics(t, func() { middleware.NewPool(nil, middleware.PoolOptions{}) })
}

// TestPoolHolds: a Pool accepts exactly Workers + Backlog deliveries, and
// tells at once that it is full: the clock stands still.
func TestPoolHolds(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	tests := []struct {
		name             string
		workers, backlog int
		holds, runs      int
	}{
		{"one worker", 1, 0, 1, 1},
		{"one worker and a backlog", 1, 3, 4, 1},
		{"several workers", 4, 0, 4, 4},
		{"several workers and a backlog", 4, 7, 11, 4},
		{"default workers", 0, 0, procs, procs},
		{"default workers and a backlog", 0, 2, procs + 2, procs},
		{"negative numbers", -1, -5, procs, procs},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running, done atomic.Int32
				var failed givenUp
				release := make(chan struct{})
				p := middleware.NewPool(func(context.Context, *middleware.Delivery) error {
					running.Add(1)
					defer running.Add(-1)
					<-release
					done.Add(1)
					return nil
				}, middleware.PoolOptions{Workers: tt.workers, Backlog: tt.backlog, Attempts: -1, Failed: failed.add})
				start := time.Now()
				for i := range tt.holds {
					require.NoError(t, p.Put(t.Context(), numbered(i)), i)
				}
				for i := range 3 {
					require.ErrorIs(t, p.Put(t.Context(), numbered(i)), middleware.ErrPoolFull)
				}
				synctest.Wait()
				assert.EqualValues(t, tt.runs, running.Load())
				// Each delivery that is done makes place for exactly one.
				for i := range 5 {
					release <- struct{}{}
					synctest.Wait()
					require.NoError(t, p.Put(t.Context(), numbered(i)))
					require.ErrorIs(t, p.Put(t.Context(), numbered(i)), middleware.ErrPoolFull)
				}
				assert.Zero(t, time.Since(start))
				close(release)
				require.NoError(t, p.Shutdown(t.Context()))
				assert.EqualValues(t, tt.holds+5, done.Load())
				assert.Zero(t, failed.calls())
			})
		})
	}
}

func TestPoolLargestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int32
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { done.Add(1); return nil },
			middleware.PoolOptions{Workers: 2, Backlog: math.MaxInt})
		for i := range 100 {
			require.NoError(t, p.Put(t.Context(), numbered(i)))
		}
		require.NoError(t, p.Shutdown(t.Context()))
		assert.EqualValues(t, 100, done.Load())
	})
}

func TestPoolBeginsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		p := middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
			time.Sleep(time.Second)
			order = append(order, string(d.Body))
			return nil
		}, middleware.PoolOptions{Workers: 1, Backlog: 20})
		var want []string
		for i := range 20 {
			require.NoError(t, p.Put(t.Context(), numbered(i)))
			want = append(want, string(numbered(i).Body))
		}
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, want, order)
	})
}

// TestPoolPutRefuses: what is not accepted is an error, and is neither worked
// on nor given to Failed.
func TestPoolPutRefuses(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithTimeout(context.Background(), -1)
	defer cancel()
	tests := []struct {
		name     string
		ctx      context.Context
		delivery *middleware.Delivery
		closed   bool
		wantErr  error // nil: any
	}{
		{"no delivery", context.Background(), nil, false, nil},
		{"context cancelled", over, numbered(1), false, context.Canceled},
		{"context expired", expired, numbered(1), false, context.DeadlineExceeded},
		{"closed", context.Background(), numbered(1), true, middleware.ErrPoolClosed},
		{"no delivery, closed", context.Background(), nil, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := middleware.NewPool(func(context.Context, *middleware.Delivery) error {
					t.Error("work was called")
					return nil
				}, middleware.PoolOptions{Failed: func(*middleware.Delivery, error) { t.Error("Failed was called") }})
				if tt.closed {
					require.NoError(t, p.Shutdown(context.Background()))
				}
				err := p.Put(tt.ctx, tt.delivery)
				require.Error(t, err)
				if tt.wantErr != nil {
					assert.ErrorIs(t, err, tt.wantErr)
				}
				require.NoError(t, p.Shutdown(context.Background()))
			})
		})
	}
}

type requestKey struct{}

// TestPoolContext: work's context is not that of Put.
func TestPoolContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := false
		p := middleware.NewPool(func(ctx context.Context, _ *middleware.Delivery) error {
			time.Sleep(time.Minute)
			ran = true
			assert.NoError(t, ctx.Err())
			assert.Nil(t, ctx.Value(requestKey{}))
			_, limited := ctx.Deadline()
			assert.False(t, limited)
			return nil
		}, middleware.PoolOptions{})
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), requestKey{}, "x"), time.Second)
		require.NoError(t, p.Put(ctx, numbered(1)))
		cancel()
		require.NoError(t, p.Shutdown(context.Background()))
		assert.True(t, ran)
	})
}

// attempt is one way for work to end.
type attempt func() error

func succeeds() error { return nil }
func fails() error    { return errWork }
func panics() error   { panic("the visitor's words in a panic") }
func aborts() error   { panic(http.ErrAbortHandler) }
func exits() error    { runtime.Goexit(); return nil }

func TestPoolAttempts(t *testing.T) {
	tests := []struct {
		name     string
		attempts int
		script   []attempt
		failed   bool
		wantErr  error // nil: not work's
		text     string
	}{
		{"success", 1, []attempt{succeeds}, false, nil, ""},
		{"success, more would be allowed", 5, []attempt{succeeds}, false, nil, ""},
		{"default is one attempt", 0, []attempt{fails}, true, errWork, "attempt 1 of 1 failed"},
		{"negative is one attempt", -3, []attempt{fails}, true, errWork, "attempt 1 of 1 failed"},
		{"second succeeds", 2, []attempt{fails, succeeds}, false, nil, ""},
		{"last succeeds", 4, []attempt{fails, panics, exits, succeeds}, false, nil, ""},
		{"none succeeds", 3, []attempt{fails, fails, fails}, true, errWork, "attempt 3 of 3 failed"},
		{"panic", 1, []attempt{panics}, true, nil, "panicked"},
		{"panic with ErrAbortHandler", 1, []attempt{aborts}, true, nil, "panicked"},
		{"Goexit", 1, []attempt{exits}, true, nil, "ended its goroutine"},
		{"the last failure is told", 3, []attempt{fails, exits, panics}, true, nil, "panicked"},
		{"the last failure is told, an error", 3, []attempt{panics, exits, fails}, true, errWork, "attempt 3 of 3 failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defaultLog(t, slog.DiscardHandler)
			synctest.Test(t, func(t *testing.T) {
				var failed givenUp
				var asked []int
				var times []time.Duration
				start := time.Now()
				mine := numbered(1)
				p := middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
					assert.Same(t, mine, d)
					times = append(times, time.Since(start))
					return tt.script[len(times)-1]()
				}, middleware.PoolOptions{
					Workers: 1, Attempts: tt.attempts, Failed: failed.add,
					Backoff: func(attempt int) time.Duration {
						asked = append(asked, attempt)
						return time.Duration(attempt) * time.Minute
					},
				})
				require.NoError(t, p.Put(t.Context(), mine))
				require.NoError(t, p.Shutdown(t.Context()))

				var wantAsked []int
				var wantTimes []time.Duration
				var now time.Duration
				for i := range tt.script {
					if i > 0 {
						wantAsked = append(wantAsked, i)
						now += time.Duration(i) * time.Minute
					}
					wantTimes = append(wantTimes, now)
				}
				assert.Equal(t, wantAsked, asked)
				assert.Equal(t, wantTimes, times)
				if !tt.failed {
					assert.Zero(t, failed.calls())
					return
				}
				require.Equal(t, 1, failed.calls())
				err := failed.errs[mine][0]
				require.Error(t, err)
				if tt.wantErr != nil {
					assert.ErrorIs(t, err, tt.wantErr)
				}
				assert.NotErrorIs(t, err, middleware.ErrPoolClosed)
				assert.Contains(t, err.Error(), tt.text)
				assert.NotContains(t, err.Error(), "visitor")
			})
		})
	}
}

// TestPoolDefaultBackoff holds the default pauses to the numbers in the
// documentation.
func TestPoolDefaultBackoff(t *testing.T) {
	const deliveries, attempts = 200, 12
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		last := make(map[*middleware.Delivery]time.Time)
		var pauses [attempts][]time.Duration
		calls := make(map[*middleware.Delivery]int)
		p := middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			if n := calls[d]; n > 0 {
				pauses[n] = append(pauses[n], time.Since(last[d]))
			}
			calls[d]++
			last[d] = time.Now()
			return errWork
		}, middleware.PoolOptions{Workers: deliveries, Attempts: attempts, Failed: new(givenUp).add})
		for i := range deliveries {
			require.NoError(t, p.Put(t.Context(), numbered(i)))
		}
		require.NoError(t, p.Shutdown(t.Context()))
		for n := 1; n < attempts; n++ {
			whole := min(time.Second<<(n-1), time.Minute)
			require.Len(t, pauses[n], deliveries)
			different := make(map[time.Duration]bool)
			var sum time.Duration
			for _, pause := range pauses[n] {
				assert.GreaterOrEqual(t, pause, whole/2)
				assert.LessOrEqual(t, pause, whole)
				different[pause] = true
				sum += pause
			}
			assert.Greater(t, len(different), deliveries/2, "after attempt %d", n)
			assert.InEpsilon(t, float64(whole)*0.75, float64(sum/deliveries), 0.1, "after attempt %d", n)
		}
	})
}

func TestPoolBackoffThatGivesNoPause(t *testing.T) {
	tests := []struct {
		name    string
		backoff func(int) time.Duration
		elapsed time.Duration // at most
	}{
		{"zero", every(0), 0},
		{"negative", every(-time.Hour), 0},
		{"it panics", func(int) time.Duration { panic("on purpose") }, 3 * time.Second},
		{"it ends its goroutine", func(int) time.Duration { runtime.Goexit(); return 0 }, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defaultLog(t, slog.DiscardHandler)
			synctest.Test(t, func(t *testing.T) {
				var failed givenUp
				calls := 0
				p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { calls++; return errWork },
					middleware.PoolOptions{Workers: 1, Attempts: 3, Backoff: tt.backoff, Failed: failed.add})
				start := time.Now()
				require.NoError(t, p.Put(t.Context(), numbered(1)))
				require.NoError(t, p.Shutdown(t.Context()))
				assert.LessOrEqual(t, time.Since(start), tt.elapsed)
				assert.Equal(t, 3, calls)
				assert.Equal(t, 1, failed.calls())
			})
		})
	}
}

// TestPoolPauseKeepsNoWorker: a delivery that waits for its next attempt takes
// a place, but others are worked on meanwhile.
func TestPoolPauseKeepsNoWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var failed givenUp
		done := make(map[string]time.Duration)
		p := middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
			if d.Key == 1 && time.Since(start) < time.Hour {
				return errWork
			}
			time.Sleep(time.Minute)
			done[string(d.Body)] = time.Since(start)
			return nil
		}, middleware.PoolOptions{Workers: 1, Backlog: 1, Attempts: 2, Backoff: every(time.Hour), Failed: failed.add})
		failing := numbered(0)
		failing.Key = 1
		require.NoError(t, p.Put(t.Context(), failing))
		synctest.Wait()
		require.NoError(t, p.Put(t.Context(), numbered(1)))
		require.ErrorIs(t, p.Put(t.Context(), numbered(2)), middleware.ErrPoolFull)
		time.Sleep(2 * time.Minute)
		require.NoError(t, p.Put(t.Context(), numbered(2)))
		require.ErrorIs(t, p.Put(t.Context(), numbered(3)), middleware.ErrPoolFull)
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, map[string]time.Duration{
			string(numbered(1).Body): time.Minute,
			string(numbered(2).Body): 3 * time.Minute,
			string(numbered(0).Body): time.Hour + time.Minute,
		}, done)
		assert.Zero(t, failed.calls())
	})
}

// TestPoolPauseOverWhileWorkersAreBusy: then the delivery waits for one.
func TestPoolPauseOverWhileWorkersAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var began []string
		p := middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
			began = append(began, fmt.Sprintf("%d at %s", d.Key, time.Since(start)))
			if d.Key == 1 && time.Since(start) == 0 {
				return errWork
			}
			time.Sleep(time.Minute)
			return nil
		}, middleware.PoolOptions{Workers: 1, Backlog: 2, Attempts: 2, Backoff: every(time.Second), Failed: new(givenUp).add})
		for i := range 3 {
			d := numbered(i)
			d.Key = i + 1
			require.NoError(t, p.Put(t.Context(), d))
		}
		require.NoError(t, p.Shutdown(t.Context()))
		assert.Equal(t, []string{"1 at 0s", "2 at 0s", "3 at 1m0s", "1 at 2m0s"}, began)
	})
}

// TestPoolFailedThatPanics: neither the worker nor the next delivery suffers.
func TestPoolFailedThatPanics(t *testing.T) {
	for name, misbehave := range map[string]func(){"panic": func() { panic("the visitor's words") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			defaultLog(t, slog.NewTextHandler(&out, nil))
			synctest.Test(t, func(t *testing.T) {
				told := 0
				p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { return errWork },
					middleware.PoolOptions{Workers: 1, Backlog: 10, Failed: func(*middleware.Delivery, error) {
						told++
						misbehave()
					}})
				for i := range 10 {
					require.NoError(t, p.Put(t.Context(), numbered(i)))
				}
				require.NoError(t, p.Shutdown(t.Context()))
				assert.Equal(t, 10, told)
			})
			assert.Equal(t, 10, strings.Count(out.String(), "level=ERROR"))
			for i := range 10 {
				assert.Contains(t, out.String(), numbered(i).ID())
			}
			assert.NotContains(t, out.String(), "visitor")
		})
	}
}

// TestPoolFailedKeepsItsPlace: what is being given up counts until Failed has
// returned.
func TestPoolFailedKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { return errWork },
			middleware.PoolOptions{Workers: 1, Failed: func(*middleware.Delivery, error) { time.Sleep(time.Second) }})
		require.NoError(t, p.Put(t.Context(), numbered(1)))
		synctest.Wait()
		require.ErrorIs(t, p.Put(t.Context(), numbered(2)), middleware.ErrPoolFull)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, p.Put(t.Context(), numbered(2)))
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// TestPoolDefaultLog: an operator can find the delivery and the fault, and
// nobody can read the content.
func TestPoolDefaultLog(t *testing.T) {
	tests := []struct {
		name  string
		work  attempt
		lines int
		want  []string
	}{
		{"error", fails, 1, []string{`msg="webhook delivery given up"`, errWork.Error(), "attempt 1 of 1"}},
		{"panic", panics, 2, []string{`msg="webhook pool: work panicked"`, "stack=", "middleware_test.panics", "work panicked; the log has the stack"}},
		{"Goexit", exits, 2, []string{`msg="webhook pool: work ended its goroutine"`, "stack=", "middleware_test.exits"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			defaultLog(t, slog.NewTextHandler(&out, nil))
			synctest.Test(t, func(t *testing.T) {
				p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { return tt.work() }, middleware.PoolOptions{})
				require.NoError(t, p.Put(t.Context(), numbered(7)))
				require.NoError(t, p.Shutdown(t.Context()))
			})
			text := out.String()
			assert.Equal(t, tt.lines, strings.Count(text, "\n"), text)
			assert.Equal(t, tt.lines, strings.Count(text, "level=ERROR"))
			assert.Equal(t, tt.lines, strings.Count(text, numbered(7).ID()))
			assert.Equal(t, tt.lines, strings.Count(text, "delivery.sender=haptik"))
			for _, piece := range tt.want {
				assert.Contains(t, text, piece)
			}
			for _, piece := range []string{"visitor", "words", "0123456789", "X-Hub"} {
				assert.NotContains(t, text, piece)
			}
		})
	}
}

// TestPoolShutdown ends Pools in every phase of their work, in time and not.
func TestPoolShutdown(t *testing.T) {
	// What the work of one delivery does.
	heeds := func(d time.Duration) func(context.Context) error {
		return func(ctx context.Context) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	ignores := func(d time.Duration, err error) func(context.Context) error {
		return func(context.Context) error { time.Sleep(d); return err }
	}
	const long = 10 * time.Second
	tests := []struct {
		name    string
		work    []func(context.Context) error // of each delivery in turn, in 2 workers
		after   time.Duration                 // from the last Put to Shutdown
		within  time.Duration                 // until Shutdown's context ends
		elapsed time.Duration                 // until Shutdown returns
		left    int                           // deliveries not done; -1: Shutdown returns nil
		done    int
		failed  int // calls of Failed, of left among them
	}{
		{"nothing was put", nil, 0, time.Hour, 0, -1, 0, 0},
		{"nothing was put, no time", nil, 0, 0, 0, -1, 0, 0},
		{"all is done", []func(context.Context) error{heeds(0), heeds(0)}, time.Second, time.Hour, 0, -1, 2, 0},
		{"all is done, no time", []func(context.Context) error{heeds(0), heeds(0)}, time.Second, 0, 0, -1, 2, 0},

		{"in flight", []func(context.Context) error{heeds(long), heeds(long)}, 0, time.Hour, long, -1, 2, 0},
		{"in flight, heeds its context", []func(context.Context) error{heeds(long), heeds(time.Second)}, 0, 5 * time.Second, 5 * time.Second, 1, 1, 1},
		{"in flight, ignores its context", []func(context.Context) error{ignores(long, nil), ignores(long, errWork)}, 0, 5 * time.Second, 5 * time.Second, 2, 1, 2},
		{"in flight, no time", []func(context.Context) error{heeds(long), ignores(long, nil)}, 0, 0, 0, 2, 1, 2},

		{"in the backlog", []func(context.Context) error{heeds(long), heeds(long), heeds(long), heeds(long), heeds(long)}, 0, time.Hour, 3 * long, -1, 5, 0},
		{"in the backlog, too long", []func(context.Context) error{heeds(long), heeds(long), heeds(long), heeds(long), heeds(long)}, 0, 15 * time.Second, 15 * time.Second, 3, 2, 3},
		{"in the backlog, no time", []func(context.Context) error{heeds(long), heeds(long), heeds(long), heeds(long), heeds(long)}, 0, 0, 0, 5, 0, 5},

		// Three attempts, 20 s between them.
		{"in a pause", []func(context.Context) error{ignores(0, errWork), heeds(0)}, time.Second, time.Hour, 39 * time.Second, -1, 1, 1},
		{"in a pause, too long", []func(context.Context) error{ignores(0, errWork), heeds(0)}, time.Second, 5 * time.Second, 5 * time.Second, 1, 1, 1},
		{"in the second pause, too long", []func(context.Context) error{ignores(0, errWork), ignores(0, errWork)}, 30 * time.Second, 5 * time.Second, 5 * time.Second, 2, 0, 2},
		{"in a pause, no time", []func(context.Context) error{ignores(0, errWork)}, time.Second, 0, 0, 1, 0, 1},
		{"given up before", []func(context.Context) error{ignores(0, errWork), heeds(long)}, 41 * time.Second, 0, 0, -1, 1, 1},

		{"in every phase", []func(context.Context) error{
			ignores(0, errWork), heeds(0), ignores(time.Second, nil), // a pause, done, done
			heeds(long), ignores(time.Minute, nil), heeds(0), heeds(0), // in flight, in flight, in the backlog twice
		}, 3 * time.Second, 3 * time.Second, 3 * time.Second, 5, 3, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var failed givenUp
				var done atomic.Int32
				p := middleware.NewPool(func(ctx context.Context, d *middleware.Delivery) error {
					err := tt.work[d.Key](ctx)
					if err == nil {
						done.Add(1)
					}
					return err
				}, middleware.PoolOptions{Workers: 2, Backlog: 10, Attempts: 3, Backoff: every(20 * time.Second), Failed: failed.add})
				for i := range tt.work {
					d := numbered(i)
					d.Key = i
					require.NoError(t, p.Put(t.Context(), d))
				}
				time.Sleep(tt.after)
				synctest.Wait()

				ctx := after(t, tt.within)
				start := time.Now()
				err := p.Shutdown(ctx)
				assert.Equal(t, tt.elapsed, time.Since(start))
				assert.ErrorIs(t, p.Put(t.Context(), numbered(0)), middleware.ErrPoolClosed)
				if tt.left < 0 {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Contains(t, err.Error(), fmt.Sprintf(": %d deliveries not done", tt.left))
				}
				assert.Equal(t, tt.failed, failed.calls(), "when Shutdown returns")

				// Another one waits for what still runs.
				require.NoError(t, p.Shutdown(context.Background()))
				assert.EqualValues(t, tt.done, done.Load())
				assert.Equal(t, tt.failed, failed.calls(), "when all has ended")
				byShutdown := 0
				for d, errs := range failed.errs {
					require.Len(t, errs, 1, "Failed is called once for delivery %d", d.Key)
					if errors.Is(errs[0], middleware.ErrPoolClosed) {
						byShutdown++
						assert.ErrorIs(t, errs[0], context.DeadlineExceeded)
					}
				}
				assert.Equal(t, max(tt.left, 0), byShutdown)
			})
		})
	}
}

// TestPoolShutdownTellsTheLastFailure and hands over in the order of Put.
func TestPoolShutdownTellsTheLastFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed givenUp
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { return errWork },
			middleware.PoolOptions{Workers: 1, Backlog: 100, Attempts: 5, Backoff: every(time.Minute), Failed: failed.add})
		var put []*middleware.Delivery
		for i := range 100 {
			put = append(put, numbered(i))
			require.NoError(t, p.Put(t.Context(), put[i]))
		}
		time.Sleep(90 * time.Second)
		err := p.Shutdown(after(t, 0))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Contains(t, err.Error(), "100 deliveries")
		assert.Equal(t, put, failed.list)
		for _, errs := range failed.errs {
			assert.ErrorIs(t, errs[0], errWork)
			assert.ErrorIs(t, errs[0], middleware.ErrPoolClosed)
			assert.Contains(t, errs[0].Error(), "attempt 2 of 5")
		}
	})
}

// TestPoolShutdownStopsIntakeAtOnce, while it drains.
func TestPoolShutdownStopsIntakeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { time.Sleep(time.Minute); return nil },
			middleware.PoolOptions{Workers: 1, Backlog: 10})
		require.NoError(t, p.Put(t.Context(), numbered(1)))
		var ended sync.WaitGroup
		ended.Go(func() { assert.NoError(t, p.Shutdown(context.Background())) })
		synctest.Wait()
		assert.ErrorIs(t, p.Put(t.Context(), numbered(2)), middleware.ErrPoolClosed)
		ended.Wait()
	})
}

// TestPoolShutdownsTogether: each returns when its own context ends or the
// Pool has, and what one gives up the others do not.
func TestPoolShutdownsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed givenUp
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { time.Sleep(time.Minute); return nil },
			middleware.PoolOptions{Workers: 3, Failed: failed.add})
		for i := range 3 {
			require.NoError(t, p.Put(t.Context(), numbered(i)))
		}
		start := time.Now()
		var ended sync.WaitGroup
		for i, tt := range []struct {
			within, elapsed time.Duration
			text            string
		}{
			{10 * time.Second, 10 * time.Second, "3 deliveries not done"},
			{20 * time.Second, 20 * time.Second, "0 deliveries not done"},
			{2 * time.Minute, time.Minute, ""},
			{time.Hour, time.Minute, ""},
		} {
			ended.Go(func() {
				err := p.Shutdown(after(t, tt.within))
				assert.Equal(t, tt.elapsed, time.Since(start), i)
				if tt.text == "" {
					assert.NoError(t, err, i)
				} else if assert.ErrorIs(t, err, context.DeadlineExceeded, i) {
					assert.Contains(t, err.Error(), tt.text, i)
				}
			})
		}
		ended.Wait()
		assert.Equal(t, 3, failed.calls())
	})
}

// TestPoolShutdownWaitsForFailed: a delivery that Failed is just saving when
// time runs out is not lost, and is not counted twice.
func TestPoolShutdownWaitsForFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saved := 0
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { return errWork },
			middleware.PoolOptions{Workers: 1, Failed: func(*middleware.Delivery, error) {
				time.Sleep(time.Minute)
				saved++
			}})
		require.NoError(t, p.Put(t.Context(), numbered(1)))
		synctest.Wait()
		start := time.Now()
		require.NoError(t, p.Shutdown(after(t, time.Second)), "the delivery was given up before, and that is done now")
		assert.Equal(t, time.Minute, time.Since(start))
		assert.Equal(t, 1, saved)
	})
}

// TestPoolShutdownWaitsForEveryFailed, also when it has deliveries of its own
// to give up, and also when another Shutdown has given them up.
func TestPoolShutdownWaitsForEveryFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var saved atomic.Int32
		p := middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
			if d.Key > 0 {
				time.Sleep(2 * time.Second)
			}
			return errWork
		}, middleware.PoolOptions{Workers: 3, Failed: func(d *middleware.Delivery, _ error) {
			if d.Key == 0 {
				time.Sleep(time.Hour)
			} else {
				time.Sleep(time.Minute)
			}
			saved.Add(1)
		}})
		for i := range 3 {
			d := numbered(i)
			d.Key = i
			require.NoError(t, p.Put(t.Context(), d))
		}
		synctest.Wait() // one is being given up, two are being worked on
		start := time.Now()
		var ended sync.WaitGroup
		for _, within := range []time.Duration{time.Second, 10 * time.Minute} {
			ended.Go(func() {
				err := p.Shutdown(after(t, within))
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.Equal(t, time.Hour, time.Since(start))
				assert.EqualValues(t, 3, saved.Load())
			})
		}
		ended.Go(func() {
			assert.NoError(t, p.Shutdown(context.Background()))
			assert.Equal(t, time.Hour, time.Since(start))
		})
		ended.Wait()
	})
}

// TestPoolIdleOnlyWhenAllIsTold: the calls of work that a Shutdown has left
// behind may end before it has told Failed of all of them.
func TestPoolIdleOnlyWhenAllIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { time.Sleep(2 * time.Second); return nil },
			middleware.PoolOptions{Workers: 3, Failed: func(*middleware.Delivery, error) { time.Sleep(time.Minute) }})
		for i := range 3 {
			require.NoError(t, p.Put(t.Context(), numbered(i)))
		}
		start := time.Now()
		var ended sync.WaitGroup
		ended.Go(func() { assert.ErrorIs(t, p.Shutdown(after(t, time.Second)), context.DeadlineExceeded) })
		require.NoError(t, p.Shutdown(context.Background()))
		assert.Equal(t, time.Second+3*time.Minute, time.Since(start))
		ended.Wait()
	})
}

// TestPoolAbandonedWork: what a call of work that Shutdown has left behind
// returns changes nothing any more, and it is not called again.
func TestPoolAbandonedWork(t *testing.T) {
	for _, attempts := range []int{1, 2, 3} {
		for name, ends := range map[string]attempt{"succeeds": succeeds, "fails": fails, "panics": panics, "exits": exits} {
			t.Run(fmt.Sprintf("attempt 1 of %d %s", attempts, name), func(t *testing.T) {
				defaultLog(t, slog.DiscardHandler)
				synctest.Test(t, func(t *testing.T) {
					var failed givenUp
					calls := 0
					p := middleware.NewPool(func(context.Context, *middleware.Delivery) error {
						calls++
						time.Sleep(time.Minute)
						return ends()
					}, middleware.PoolOptions{Workers: 1, Backlog: 1, Attempts: attempts, Backoff: every(0), Failed: failed.add})
					require.NoError(t, p.Put(t.Context(), numbered(1)))
					require.NoError(t, p.Put(t.Context(), numbered(2)))
					require.ErrorIs(t, p.Shutdown(after(t, time.Second)), context.DeadlineExceeded)
					assert.Equal(t, 2, failed.calls())
					require.NoError(t, p.Shutdown(context.Background()))
					assert.Equal(t, 2, failed.calls())
					assert.Equal(t, 1, calls)
				})
			})
		}
	}
}

// TestPoolFailedPutsAgain: Failed may call Put, and is told if that is refused.
func TestPoolFailedPutsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *middleware.Pool
		again := 0
		p = middleware.NewPool(func(_ context.Context, d *middleware.Delivery) error {
			if again < 3 {
				return errWork
			}
			return nil
		}, middleware.PoolOptions{Workers: 1, Backlog: 1, Failed: func(d *middleware.Delivery, _ error) {
			again++
			assert.NoError(t, p.Put(context.Background(), d))
		}})
		require.NoError(t, p.Put(t.Context(), numbered(1)))
		synctest.Wait()
		assert.Equal(t, 3, again)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// TestPoolLosesNothing: what Put has acknowledged is done or given to Failed,
// and never both, however work ends.
func TestPoolLosesNothing(t *testing.T) {
	const senders, perSender = 100, 100
	tests := []struct {
		name   string
		middle bool          // shut down while deliveries still come
		within time.Duration // for Shutdown
	}{
		{"shut down at the end", false, time.Hour},
		{"shut down in the middle, drained", true, time.Hour},
		{"shut down in the middle, out of time", true, time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defaultLog(t, slog.DiscardHandler)
			synctest.Test(t, func(t *testing.T) {
				const workers = 8
				var failed givenUp
				var mu sync.Mutex
				done := make(map[*middleware.Delivery]int)
				active := make(map[*middleware.Delivery]bool)
				most := 0
				p := middleware.NewPool(func(ctx context.Context, d *middleware.Delivery) error {
					mu.Lock()
					assert.False(t, active[d], "work on a delivery that is being worked on")
					active[d] = true
					most = max(most, len(active))
					mu.Unlock()
					select {
					case <-time.After(rand.N(20 * time.Millisecond)):
					case <-ctx.Done():
					}
					mu.Lock()
					defer mu.Unlock()
					delete(active, d)
					if ctx.Err() != nil {
						return ctx.Err()
					}
					switch rand.N(10) {
					case 0, 1:
						return errWork
					case 2:
						panic("on purpose")
					case 3:
						runtime.Goexit()
					}
					done[d]++
					return nil
				}, middleware.PoolOptions{
					Workers: workers, Backlog: 50, Attempts: 3, Failed: failed.add,
					Backoff: func(int) time.Duration { return rand.N(10 * time.Millisecond) },
				})

				var acknowledged, full, closed atomic.Int32
				var all sync.WaitGroup
				for s := range senders {
					all.Go(func() {
						for i := range perSender {
							time.Sleep(rand.N(300 * time.Millisecond))
							switch err := p.Put(context.Background(), numbered(s*perSender+i)); {
							case err == nil:
								acknowledged.Add(1)
							case errors.Is(err, middleware.ErrPoolFull):
								full.Add(1)
							case errors.Is(err, middleware.ErrPoolClosed):
								closed.Add(1)
							default:
								assert.NoError(t, err)
							}
						}
					})
				}
				if tt.middle {
					time.Sleep(7 * time.Second)
				} else {
					all.Wait()
				}
				err := p.Shutdown(after(t, tt.within))
				all.Wait()
				require.NoError(t, p.Shutdown(context.Background()), "for what still ran")

				byShutdown := 0
				for d, errs := range failed.errs {
					require.Len(t, errs, 1, "Failed is called once")
					assert.Zero(t, done[d], "done and given up")
					if errors.Is(errs[0], middleware.ErrPoolClosed) {
						byShutdown++
					}
				}
				for _, n := range done {
					require.Equal(t, 1, n, "done once")
				}
				assert.Equal(t, tt.within < time.Second, byShutdown > 0)
				assert.Equal(t, tt.middle, closed.Load() > 0)
				if byShutdown > 0 {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					assert.Contains(t, err.Error(), fmt.Sprintf(" %d deliveries not done", byShutdown))
				} else {
					require.NoError(t, err)
				}
				assert.LessOrEqual(t, most, workers)
				assert.EqualValues(t, senders*perSender, acknowledged.Load()+full.Load()+closed.Load())
				assert.Positive(t, full.Load(), "the Pool was never full")
				lost := int(acknowledged.Load()) - len(done) - len(failed.errs)
				assert.Zero(t, lost)
				t.Logf("of %d deliveries: refused, full: %d; refused, closed: %d; acknowledged: %d = done: %d + given to Failed: %d (by Shutdown: %d); acknowledged minus done and failed: %d; at work at one time: %d",
					senders*perSender, full.Load(), closed.Load(), acknowledged.Load(), len(done), len(failed.errs), byShutdown, lost, most)
			})
		})
	}
}

// TestPoolAcknowledgedIsDone: where work succeeds, every acknowledged delivery
// is done, the Pool being full part of the time.
func TestPoolAcknowledgedIsDone(t *testing.T) {
	const senders, perSender = 100, 100
	synctest.Test(t, func(t *testing.T) {
		var acknowledged, refused, done atomic.Int32
		var failed givenUp
		p := middleware.NewPool(func(context.Context, *middleware.Delivery) error {
			time.Sleep(rand.N(20 * time.Millisecond))
			done.Add(1)
			return nil
		}, middleware.PoolOptions{Workers: 4, Backlog: 100, Failed: failed.add})
		var all sync.WaitGroup
		for s := range senders {
			all.Go(func() {
				for i := range perSender {
					// As a sender does: once more after a refusal.
					for p.Put(context.Background(), numbered(s*perSender+i)) != nil {
						refused.Add(1)
						time.Sleep(time.Second)
					}
					acknowledged.Add(1)
					time.Sleep(rand.N(100 * time.Millisecond))
				}
			})
		}
		all.Wait()
		require.NoError(t, p.Shutdown(context.Background()))
		assert.EqualValues(t, senders*perSender, acknowledged.Load())
		assert.Equal(t, acknowledged.Load(), done.Load())
		assert.Positive(t, refused.Load(), "the Pool was never full")
		assert.Zero(t, failed.calls())
		t.Logf("acknowledged: %d; refused by a full Pool and put again: %d; acknowledged minus done: %d",
			acknowledged.Load(), refused.Load(), acknowledged.Load()-done.Load())
	})
}

func BenchmarkPool(b *testing.B) {
	p := middleware.NewPool(func(context.Context, *middleware.Delivery) error { return nil },
		middleware.PoolOptions{Backlog: 1000})
	d := numbered(1)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		for p.Put(ctx, d) != nil {
			runtime.Gosched()
		}
	}
	if err := p.Shutdown(ctx); err != nil {
		b.Fatal(err)
	}
}
