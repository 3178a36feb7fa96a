package main

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// stores returns two Stores that share a bucket.
func stores(t *testing.T, o StoreOptions) (a, b *Store) {
	t.Helper()
	js := startJetStream(t, t.TempDir())
	o.Timeout = 5 * time.Second // the machine may be busy
	a, err := NewStore(t.Context(), js, o)
	require.NoError(t, err)
	b, err = NewStore(t.Context(), js, o)
	require.NoError(t, err)
	return a, b
}

func claims(t *testing.T, s *Store, id string) middleware.State {
	t.Helper()
	state, err := s.Claim(t.Context(), id)
	require.NoError(t, err)
	return state
}

func TestStore(t *testing.T) {
	t.Parallel()
	a, b := stores(t, StoreOptions{})
	id := func(name string) string { return delivery(name).ID() }

	assert.Equal(t, middleware.Fresh, claims(t, a, id("done")))
	assert.Equal(t, middleware.Running, claims(t, a, id("done")))
	assert.Equal(t, middleware.Running, claims(t, b, id("done")))
	require.NoError(t, a.Settle(t.Context(), id("done"), true))
	assert.Equal(t, middleware.Done, claims(t, a, id("done")))
	assert.Equal(t, middleware.Done, claims(t, b, id("done")))
	for _, done := range []bool{false, true} { // is not running: nothing changes
		require.NoError(t, b.Settle(t.Context(), id("done"), done))
		assert.Equal(t, middleware.Done, claims(t, b, id("done")))
		require.NoError(t, b.Settle(t.Context(), id("unknown"), done))
	}
	assert.Equal(t, middleware.Fresh, claims(t, b, id("unknown")))

	for range 3 { // a failed one is fresh again, to all
		assert.Equal(t, middleware.Fresh, claims(t, a, id("fails")))
		require.NoError(t, a.Settle(t.Context(), id("fails"), false))
		assert.Equal(t, middleware.Fresh, claims(t, b, id("fails")))
		require.NoError(t, b.Settle(t.Context(), id("fails"), false))
	}

	assert.Equal(t, middleware.Fresh, claims(t, a, id("settled by another")))
	require.NoError(t, b.Settle(t.Context(), id("settled by another"), false))
	assert.Equal(t, middleware.Fresh, claims(t, b, id("settled by another")))
	require.NoError(t, a.Settle(t.Context(), id("settled by another"), true))
	assert.Equal(t, middleware.Done, claims(t, b, id("settled by another")))

	_, err := a.Claim(t.Context(), "not an id *")
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.Claim(ctx, id("ended"))
	require.ErrorIs(t, err, context.Canceled)
}

func TestOneOfManyClaims(t *testing.T) {
	t.Parallel()
	a, b := stores(t, StoreOptions{})
	for _, again := range []bool{false, true} { // again: over the mark of one that has failed
		var fresh, running atomic.Int64
		id := delivery("one").ID()
		start := make(chan bool)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				<-start
				state, err := []*Store{a, b}[i%2].Claim(t.Context(), id)
				switch {
				case !assert.NoError(t, err):
				case state == middleware.Fresh:
					fresh.Add(1)
				case state == middleware.Running:
					running.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		assert.Equal(t, int64(1), fresh.Load(), "again: %v", again)
		assert.Equal(t, int64(49), running.Load(), "again: %v", again)
		require.NoError(t, a.Settle(t.Context(), id, false))
		require.NoError(t, b.Settle(t.Context(), id, false))
	}
}

// TestLease: a claim that nobody settles ends by itself; what is settled does
// not end with the lease, but with the window.
func TestLease(t *testing.T) {
	t.Parallel()
	a, b := stores(t, StoreOptions{Lease: time.Second, Window: 4 * time.Second})
	crashed, settled, late := delivery("crashed").ID(), delivery("settled").ID(), delivery("late").ID()
	overtaken := delivery("overtaken").ID()
	for _, id := range []string{crashed, settled, late, overtaken} {
		require.Equal(t, middleware.Fresh, claims(t, a, id))
	}
	require.NoError(t, a.Settle(t.Context(), settled, true))
	begun := time.Now()
	assert.Equal(t, middleware.Running, claims(t, b, crashed))
	eventually(t, func() bool { return claims(t, b, crashed) == middleware.Fresh }, 5*time.Second, "the lease ends")
	eventually(t, func() bool { return claims(t, b, overtaken) == middleware.Fresh }, 5*time.Second, "the lease ends")
	assert.GreaterOrEqual(t, time.Since(begun), 900*time.Millisecond)

	// a comes back too late: it does not end b's claim, but what is done stays done.
	require.NoError(t, a.Settle(t.Context(), crashed, false))
	assert.Equal(t, middleware.Running, claims(t, a, crashed))
	require.NoError(t, a.Settle(t.Context(), overtaken, true))
	assert.Equal(t, middleware.Done, claims(t, b, overtaken))
	require.NoError(t, a.Settle(t.Context(), late, true))
	assert.Equal(t, middleware.Done, claims(t, b, late))

	if time.Since(begun) < 3*time.Second { // the machine may be busy
		assert.Equal(t, middleware.Done, claims(t, b, settled))
	}
	eventually(t, func() bool { return claims(t, b, settled) == middleware.Fresh }, 10*time.Second, "the window ends")
	assert.GreaterOrEqual(t, time.Since(begun), 3900*time.Millisecond)
}
