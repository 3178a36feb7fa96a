package middleware_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"strconv"
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

var _ middleware.Store = (*middleware.MemoryStore)(nil)

// idOf returns an id of the form of Delivery.ID's.
func idOf(i int) string {
	sum := sha256.Sum256(strconv.AppendInt(nil, int64(i), 10))
	return hex.EncodeToString(sum[:])
}

func claim(t testing.TB, s middleware.Store, id string) middleware.State {
	t.Helper()
	state, err := s.Claim(context.Background(), id)
	require.NoError(t, err)
	return state
}

func settle(t testing.TB, s middleware.Store, id string, done bool) {
	t.Helper()
	require.NoError(t, s.Settle(context.Background(), id, done))
}

// fill has deliveries from up to to done. It checks nothing, because it is
// called for very many.
func fill(s middleware.Store, from, to int) {
	ctx := context.Background()
	for i := from; i < to; i++ {
		id := idOf(i)
		s.Claim(ctx, id)
		s.Settle(ctx, id, true)
	}
}

func TestStateString(t *testing.T) {
	for state, want := range map[middleware.State]string{
		middleware.Fresh: "fresh", middleware.Running: "running", middleware.Done: "done", -1: "unknown", 3: "unknown",
	} {
		assert.Equal(t, want, state.String())
	}
}

// step is what is done to a Store, and what a Claim must return.
type step func(t *testing.T, s middleware.Store)

func claims(i int, want middleware.State) step {
	return func(t *testing.T, s middleware.Store) {
		t.Helper()
		assert.Equal(t, want, claim(t, s, idOf(i)), "claim of %d", i)
	}
}

func settles(i int, done bool) step {
	return func(t *testing.T, s middleware.Store) { t.Helper(); settle(t, s, idOf(i), done) }
}

func waits(d time.Duration) step {
	return func(*testing.T, middleware.Store) { time.Sleep(d) }
}

func TestMemoryStore(t *testing.T) {
	const window = time.Hour
	const (
		fresh   = middleware.Fresh
		running = middleware.Running
		done    = middleware.Done
	)
	tests := []struct {
		name   string
		window time.Duration
		max    int
		steps  []step
	}{
		{"claimed once", window, 10, []step{claims(1, fresh), claims(1, running), claims(1, running)}},
		{"done", window, 10, []step{claims(1, fresh), settles(1, true), claims(1, done), claims(1, done)}},
		{"failed", window, 10, []step{claims(1, fresh), settles(1, false), claims(1, fresh), claims(1, running)}},
		{"failed, then done", window, 10, []step{
			claims(1, fresh), settles(1, false), claims(1, fresh), settles(1, true), claims(1, done),
		}},
		{"one says nothing of another", window, 10, []step{
			claims(1, fresh), claims(2, fresh), settles(1, true), claims(2, running), claims(1, done), settles(2, false), claims(1, done), claims(2, fresh),
		}},

		{"settled unknown as done", window, 10, []step{settles(1, true), claims(1, fresh)}},
		{"settled unknown as failed", window, 10, []step{settles(1, false), claims(1, fresh)}},
		{"settled twice as done", window, 10, []step{claims(1, fresh), settles(1, true), settles(1, true), claims(1, done)}},
		{"settled as failed once it is done", window, 10, []step{claims(1, fresh), settles(1, true), settles(1, false), claims(1, done)}},
		{"settled as done once it has failed", window, 10, []step{claims(1, fresh), settles(1, false), settles(1, true), claims(1, fresh)}},

		{"just before the window's end", window, 10, []step{claims(1, fresh), settles(1, true), waits(window - 1), claims(1, done)}},
		{"at the window's end", window, 10, []step{claims(1, fresh), settles(1, true), waits(window), claims(1, fresh), claims(1, running)}},
		{"a claim does not lengthen the window", window, 10, []step{
			claims(1, fresh), settles(1, true), waits(window - 1), claims(1, done), waits(1), claims(1, fresh),
		}},
		{"nor does a second settling", window, 10, []step{
			claims(1, fresh), settles(1, true), waits(window - 1), settles(1, true), waits(1), claims(1, fresh),
		}},
		{"the window counts from settling", window, 10, []step{
			claims(1, fresh), waits(2 * window), claims(1, running), settles(1, true), waits(window - 1), claims(1, done), waits(1), claims(1, fresh),
		}},
		{"running does not expire", window, 10, []step{claims(1, fresh), waits(1000 * window), claims(1, running)}},
		{"settled late, when others expire", window, 10, []step{
			claims(1, fresh), claims(2, fresh), settles(2, true), waits(window), settles(1, true), claims(1, done), claims(2, fresh),
		}},
		{"done again after the window", window, 10, []step{
			claims(1, fresh), settles(1, true), waits(window), claims(1, fresh), settles(1, true), waits(window - 1), claims(1, done), waits(1), claims(1, fresh),
		}},
		{"each has its own window", window, 10, []step{
			claims(1, fresh), settles(1, true), waits(window / 2), claims(2, fresh), settles(2, true), waits(window / 2), claims(1, fresh), claims(2, done),
		}},
		{"no window", 0, 10, []step{claims(1, fresh), claims(1, running), settles(1, true), claims(1, fresh), settles(1, false), claims(1, fresh)}},
		{"negative window", -window, 10, []step{claims(1, fresh), claims(1, running), settles(1, true), claims(1, fresh)}},

		{"the oldest goes first", window, 2, []step{
			claims(1, fresh), settles(1, true), claims(2, fresh), settles(2, true),
			claims(3, fresh), claims(2, done), claims(3, running), // 1 has gone
			settles(3, true), claims(2, done), claims(3, done),
			claims(1, fresh), claims(3, done), claims(1, running), // 2 has gone
			claims(2, fresh), claims(1, running), // 3 has gone
		}},
		{"the oldest is that settled first, not claimed first", window, 2, []step{
			claims(1, fresh), claims(2, fresh), settles(2, true), settles(1, true),
			claims(3, fresh), claims(1, done), claims(3, running), settles(3, true), claims(2, fresh),
		}},
		{"a claim that finds its entry takes no place", window, 2, []step{
			claims(1, fresh), settles(1, true), claims(2, fresh), claims(1, done), claims(2, running), settles(2, true), claims(1, done), claims(2, done),
		}},
		{"running stays, settled goes", window, 2, []step{
			claims(1, fresh), claims(2, fresh), settles(2, true), claims(3, fresh), claims(1, running), claims(3, running),
		}},
		{"all are running", window, 2, []step{
			claims(1, fresh), claims(2, fresh), claims(3, fresh), claims(4, fresh),
			claims(1, running), claims(2, running), claims(3, running), claims(4, running),
			// No place for what is done until as few as two are left.
			settles(1, true), claims(1, fresh), settles(1, false), settles(2, false), settles(3, true), claims(3, done), claims(4, running),
		}},
		{"a failed one frees its place", window, 2, []step{
			claims(1, fresh), settles(1, true), claims(2, fresh), settles(2, false), claims(3, fresh), claims(1, done),
		}},
		{"one place", window, 1, []step{
			claims(1, fresh), settles(1, true), claims(1, done), claims(2, fresh), settles(2, true), claims(2, done), claims(1, fresh),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := middleware.NewMemoryStore(tt.window, tt.max)
				for _, step := range tt.steps {
					step(t, s)
				}
			})
		})
	}
}

func TestMemoryStoreDefaultMax(t *testing.T) {
	for _, entries := range []int{0, -1} {
		s := middleware.NewMemoryStore(time.Hour, entries)
		fill(s, 0, 100_001)
		assert.Equal(t, middleware.Done, claim(t, s, idOf(1)), "the 100,000 latest are there")
		assert.Equal(t, middleware.Fresh, claim(t, s, idOf(0)), "the one before is not")
	}
}

// TestMemoryStoreIDs: ids of any form are kept apart.
func TestMemoryStoreIDs(t *testing.T) {
	id := idOf(1)
	sum := sha256.Sum256([]byte("an id"))
	ids := []string{
		id, strings.ToUpper(id), id[:63], id + "0", id[:63] + "g", id[:63] + "/", id[:63] + ":", id[:63] + "`", id[:63] + "G", " " + id[1:], "0x" + id[2:],
		"", "an id", hex.EncodeToString(sum[:]), string(sum[:]), strings.Repeat("0", 64), strings.Repeat("\x00", 32), strings.Repeat("é", 32),
		(&middleware.Delivery{}).ID(), strings.Repeat("x", 1<<20),
	}
	s := middleware.NewMemoryStore(time.Hour, 0)
	for _, id := range ids {
		assert.Equal(t, middleware.Fresh, claim(t, s, id), "%.70q", id)
	}
	for i, id := range ids {
		settle(t, s, id, i%2 == 0)
	}
	for i, id := range ids {
		assert.Equal(t, i%2 == 0, claim(t, s, id) == middleware.Done, "%.70q", id)
	}
}

// TestMemoryStoreIgnoresContext: nothing waits, so there is nothing to cancel,
// and a settling is never lost.
func TestMemoryStoreIgnoresContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := middleware.NewMemoryStore(time.Hour, 0)
	state, err := s.Claim(ctx, idOf(1))
	require.NoError(t, err)
	assert.Equal(t, middleware.Fresh, state)
	require.NoError(t, s.Settle(ctx, idOf(1), true))
	assert.Equal(t, middleware.Done, claim(t, s, idOf(1)))
}

// TestMemoryStoreClaimsAtOnce: of fifty claims at one time exactly one is
// Fresh, and so after each failure.
func TestMemoryStoreClaimsAtOnce(t *testing.T) {
	const copies, rounds = 50, 200
	s := middleware.NewMemoryStore(time.Hour, 10)
	for round := range rounds {
		var fresh, running atomic.Int32
		start := make(chan struct{})
		var all sync.WaitGroup
		for range copies {
			all.Go(func() {
				<-start
				switch claim(t, s, idOf(1)) {
				case middleware.Fresh:
					fresh.Add(1)
				case middleware.Running:
					running.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		require.EqualValues(t, 1, fresh.Load(), "round %d", round)
		require.EqualValues(t, copies-1, running.Load())
		settle(t, s, idOf(1), false)
	}
}

// TestMemoryStoreRuns plays handlers that fail now and then, in many
// goroutines, in a Store that is too small: no two ever run the same id at one
// time.
func TestMemoryStoreRuns(t *testing.T) {
	const goroutines, deliveries, ids = 50, 400, 40
	s := middleware.NewMemoryStore(time.Millisecond, 10)
	var running [ids]atomic.Bool
	var ran atomic.Int32
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range deliveries {
				n := (g*7 + i) % ids
				if claim(t, s, idOf(n)) != middleware.Fresh {
					continue
				}
				assert.False(t, running[n].Swap(true), "two run at one time")
				runtime.Gosched()
				running[n].Store(false)
				ran.Add(1)
				settle(t, s, idOf(n), i%3 != 0)
			}
		})
	}
	all.Wait()
	assert.GreaterOrEqual(t, ran.Load(), int32(ids))
}

// TestMemoryStoreMemory measures an entry, when the store has just filled and
// after each has been replaced many times.
func TestMemoryStoreMemory(t *testing.T) {
	// Map and queue grow in steps, so the cost differs with the number.
	for _, entries := range []int{10_000, 24_000, 57_400, 100_000} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			base := liveHeap()
			s := middleware.NewMemoryStore(time.Hour, entries)
			each := func() int64 { return (liveHeap() - base) / int64(entries) }
			fill(s, 0, entries)
			full := each()
			worn := full
			for i := 2; i < 10; i++ {
				fill(s, i*entries/2, (i+1)*entries/2)
				worn = max(worn, each())
			}
			t.Logf("%d settled entries: %d bytes each; at most %d while they are replaced four times", entries, full, worn)
			assert.LessOrEqual(t, worn, int64(200))
			assert.Greater(t, full, int64(72), "that much are the two keys and the time alone")
			assert.Equal(t, middleware.Done, claim(t, s, idOf(4*entries)), "the oldest that fits")
		})
	}
}

// TestMemoryStoreExpiryFreesMemory: the first call after many have expired
// gives back what they cost.
func TestMemoryStoreExpiryFreesMemory(t *testing.T) {
	const entries = 50_000
	synctest.Test(t, func(t *testing.T) {
		base := liveHeap()
		s := middleware.NewMemoryStore(time.Minute, entries)
		fill(s, 0, entries)
		full := liveHeap() - base
		time.Sleep(time.Minute)
		assert.Equal(t, middleware.Fresh, claim(t, s, idOf(entries-1)))
		left := liveHeap() - base
		t.Logf("%d entries: %d bytes; once they have expired: %d bytes", entries, full, left)
		assert.Less(t, left, full/10)
		runtime.KeepAlive(s)
	})
}

func BenchmarkMemoryStore(b *testing.B) {
	const n = 1 << 16
	ids := make([]string, n)
	for i := range ids {
		ids[i] = idOf(i)
	}
	ctx := context.Background()
	b.Run("one", func(b *testing.B) {
		s := middleware.NewMemoryStore(time.Hour, n/2)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			id := ids[i%n]
			if _, err := s.Claim(ctx, id); err != nil {
				b.Fatal(err)
			}
			if err := s.Settle(ctx, id, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		s := middleware.NewMemoryStore(time.Hour, n/2)
		var next atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				id := ids[next.Add(1)%n]
				if _, err := s.Claim(ctx, id); err != nil {
					b.Error(err)
				}
				if err := s.Settle(ctx, id, true); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
