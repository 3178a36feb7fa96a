package main

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

const soon = 15 * time.Second // on a slow machine

var errAway = errors.New("the other service is away")

// jobs returns how many jobs are in each state.
func jobs(tb testing.TB, pool *pgxpool.Pool) map[string]int {
	tb.Helper()
	rows, err := pool.Query(context.Background(), "SELECT state::text, count(*) FROM river_job GROUP BY state")
	require.NoError(tb, err)
	counts := make(map[string]int)
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error { counts[state] = n; return nil })
	require.NoError(tb, err)
	return counts
}

// eventually waits until jobs are as wanted.
func eventually(tb testing.TB, pool *pgxpool.Pool, want map[string]int) {
	tb.Helper()
	require.EventuallyWithT(tb, func(c *assert.CollectT) { assert.Equal(c, want, jobs(tb, pool)) }, soon, 20*time.Millisecond)
}

// TestDeliveryComesAsItWas: body, header and the rest are what Put was given.
func TestDeliveryComesAsItWas(t *testing.T) {
	t.Parallel()
	got := make(chan *middleware.Delivery, 1)
	rc := newTestReceiver(t, newDatabase(t), func(_ context.Context, d *middleware.Delivery) error {
		got <- d
		return nil
	}, QueueOptions{})
	start(t, rc)
	want := delivery("\x00\xff" + strings.Repeat("é", 300_000))
	require.NoError(t, rc.queue.Put(t.Context(), want))
	select {
	case d := <-got:
		assert.Equal(t, want.ID(), d.ID())
		assert.True(t, slices.Equal(want.Body, d.Body))
		assert.Equal(t, want.Header, d.Header)
		assert.Equal(t, want.Sender, d.Sender)
		assert.WithinDuration(t, want.ReceivedAt, d.ReceivedAt, 0)
	case <-time.After(soon):
		t.Fatal("not worked on")
	}
	require.Error(t, rc.queue.Put(t.Context(), nil))
}

// TestRetryIsStoredOnce: whatever has become of the delivery by the time that
// the retry comes.
func TestRetryIsStoredOnce(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	rc := newTestReceiver(t, newDatabase(t), func(ctx context.Context, d *middleware.Delivery) error {
		switch string(d.Body) {
		case "fails":
			return errAway
		case "fails again":
			return errAway
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, QueueOptions{Attempts: 1})
	start(t, rc)
	pool := rc.queue.pool

	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { assert.NoError(t, rc.queue.Put(t.Context(), delivery("waits")), "at the same time") })
	}
	wg.Wait()
	eventually(t, pool, map[string]int{"running": 1})
	again := func(body string) {
		d := delivery(body)
		d.Header.Set("X-Hub-Signature", "sha1=another") // a DSA signature differs from retry to retry
		d.ReceivedAt = d.ReceivedAt.Add(time.Second)
		require.NoError(t, rc.queue.Put(t.Context(), d))
	}
	again("waits")
	assert.Equal(t, map[string]int{"running": 1}, jobs(t, pool), "while it is worked on")
	close(release)
	eventually(t, pool, map[string]int{"completed": 1})
	again("waits")
	assert.Equal(t, map[string]int{"completed": 1}, jobs(t, pool), "after it was worked on")

	again("fails")
	eventually(t, pool, map[string]int{"completed": 1, "discarded": 1})
	again("fails")
	assert.Equal(t, map[string]int{"completed": 1, "discarded": 1}, jobs(t, pool), "after it was given up")

	other := delivery("waits")
	other.Sender = "compliancely"
	require.NoError(t, rc.queue.Put(t.Context(), other))
	eventually(t, pool, map[string]int{"completed": 2, "discarded": 1}) // another sender's is another delivery
}

// TestRemember: what was worked on is forgotten after Remember, and dead
// letters never are.
func TestRemember(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	work := func(_ context.Context, d *middleware.Delivery) error {
		if string(d.Body) == "fails" {
			return errAway
		}
		return nil
	}
	first := newTestReceiver(t, database, work, QueueOptions{Attempts: 1})
	start(t, first)
	for _, body := range []string{"fails", "old", "new"} {
		require.NoError(t, first.queue.Put(t.Context(), delivery(body)))
	}
	pool := newPool(t, database)
	eventually(t, pool, map[string]int{"completed": 2, "discarded": 1})
	stop(t, first)
	_, err := pool.Exec(t.Context(), `UPDATE river_job SET finalized_at = now() - CASE
		WHEN state = 'discarded' THEN interval '90 days' WHEN args->>'id' = $1 THEN interval '25 h' ELSE interval '23 h' END`, delivery("old").ID())
	require.NoError(t, err)

	second := newTestReceiver(t, database, work, QueueOptions{Attempts: 1})
	start(t, second)
	eventually(t, pool, map[string]int{"completed": 1, "discarded": 1})
	require.NoError(t, second.queue.Put(t.Context(), delivery("old")))
	eventually(t, pool, map[string]int{"completed": 2, "discarded": 1})
}

// TestDeadLetters: an attempt that fails is followed by another after a pause,
// the last one by a report; then the SQL of the README brings the delivery back.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	type failure struct {
		id  string
		err error
	}
	failures := make(chan failure, 10)
	var mu sync.Mutex
	at := make(map[string][]time.Time)
	healed := false
	const pause = 300 * time.Millisecond
	rc := newTestReceiver(t, newDatabase(t), func(_ context.Context, d *middleware.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		body := string(d.Body)
		at[body] = append(at[body], time.Now())
		switch {
		case healed, body == "second time" && len(at[body]) == 2:
			return nil
		case body == "panics":
			panic("a part of the body")
		}
		return errAway
	}, QueueOptions{
		Attempts: 3,
		Backoff:  func(attempt int) time.Duration { return time.Duration(attempt) * pause },
		Failed:   func(d *middleware.Delivery, err error) { failures <- failure{string(d.Body), err} },
	})
	start(t, rc)
	pool := rc.queue.pool
	for _, body := range []string{"second time", "fails", "panics"} {
		require.NoError(t, rc.queue.Put(t.Context(), delivery(body)))
	}
	eventually(t, pool, map[string]int{"completed": 1, "discarded": 2})
	got := map[string]error{}
	for range 2 {
		f := <-failures
		got[f.id] = f.err
	}
	assert.Empty(t, failures)
	require.ErrorIs(t, got["fails"], errAway)
	require.ErrorIs(t, got["panics"], errPanicked)
	dead, err := rc.queue.Dead(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2, dead)
	var kept string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT string_agg(errors::text, '') FROM river_job").Scan(&kept))
	assert.NotContains(t, kept, "a part of the body")

	mu.Lock()
	for _, body := range []string{"fails", "panics"} {
		if assert.Len(t, at[body], 3, body) {
			assert.GreaterOrEqual(t, at[body][1].Sub(at[body][0]), pause)
			assert.GreaterOrEqual(t, at[body][2].Sub(at[body][1]), 2*pause)
		}
	}
	healed = true
	mu.Unlock()

	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	again := regexp.MustCompile("(?s)UPDATE river_job .*?;").FindString(string(readme))
	require.NotEmpty(t, again)
	_, err = pool.Exec(t.Context(), again)
	require.NoError(t, err)
	eventually(t, pool, map[string]int{"completed": 3})
}

func TestBackoff(t *testing.T) {
	for attempt, whole := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 13: time.Hour, 1000: time.Hour} {
		for range 100 {
			got := backoff(attempt)
			assert.GreaterOrEqual(t, got, whole/2)
			assert.LessOrEqual(t, got, whole)
		}
	}
}

// TestShutdownEndsWork: work that does not finish in time is told to, and what
// it has not done is done after the next start.
func TestShutdownEndsWork(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	pool := newPool(t, database)
	rc := newTestReceiver(t, database, func(ctx context.Context, _ *middleware.Delivery) error {
		<-ctx.Done()
		return ctx.Err()
	}, QueueOptions{Attempts: 1})
	start(t, rc)
	require.NoError(t, rc.queue.Put(t.Context(), delivery("slow")))
	eventually(t, pool, map[string]int{"running": 1})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.NoError(t, rc.queue.Shutdown(ctx))
	require.NoError(t, rc.queue.Shutdown(ctx), "again")
	assert.Equal(t, map[string]int{"available": 1}, jobs(t, pool), "and this attempt does not count")

	next := newTestReceiver(t, database, func(context.Context, *middleware.Delivery) error { return nil }, QueueOptions{})
	start(t, next)
	eventually(t, pool, map[string]int{"completed": 1})
}

// TestShutdownLeavesDeafWork: work that does not heed its context does not
// hold up the end, with a connection of the pool neither.
func TestShutdownLeavesDeafWork(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	pool := newPool(t, database)
	release := make(chan struct{})
	var rc *receiver
	rc = newTestReceiver(t, database, func(context.Context, *middleware.Delivery) error {
		conn, err := rc.pool.Acquire(context.Background())
		if err != nil {
			return err
		}
		defer conn.Release()
		<-release
		return nil
	}, QueueOptions{})
	require.NoError(t, rc.queue.Start(t.Context()))
	require.NoError(t, rc.queue.Put(t.Context(), delivery("deaf")))
	eventually(t, pool, map[string]int{"running": 1})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	require.ErrorIs(t, rc.queue.Shutdown(ctx), context.DeadlineExceeded)
	rc.close()
	assert.Less(t, time.Since(begun), hardTime+closeTime+5*time.Second)
	close(release)
}

// TestDurable: a server that would answer before a commit is on disk is refused.
func TestDurable(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	pool := newPool(t, database)
	var name string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&name))
	_, err := pool.Exec(t.Context(), "ALTER DATABASE "+name+" SET synchronous_commit = off")
	require.NoError(t, err)
	rc := newTestReceiver(t, database, work, QueueOptions{})
	require.ErrorContains(t, rc.queue.Start(t.Context()), "synchronous_commit is off")
}

// TestStartTogether: receivers that start at one time migrate one after the
// other, and all work.
func TestStartTogether(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	pool := newPool(t, database)
	var wg sync.WaitGroup
	for range 4 {
		rc := newTestReceiver(t, database, func(context.Context, *middleware.Delivery) error { return nil }, QueueOptions{})
		t.Cleanup(func() { stop(t, rc) })
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if assert.NoError(t, rc.queue.Start(ctx)) {
				assert.NoError(t, rc.queue.Put(ctx, delivery("the same")))
			}
		})
	}
	wg.Wait()
	eventually(t, pool, map[string]int{"completed": 1})
}

func TestNewQueueWithoutWork(t *testing.T) {
	_, err := NewQueue(nil, nil, QueueOptions{})
	require.Error(t, err)
}
