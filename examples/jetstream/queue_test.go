package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

func soon(int) time.Duration { return 10 * time.Millisecond }

// stored returns the number of messages in a stream.
func stored(t testing.TB, js jetstream.JetStream, stream string) int {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	return int(s.CachedInfo().State.Msgs)
}

func TestWindow(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 3600*time.Second+7*5*time.Second, Window(middleware.Haptik()))
	assert.Equal(t, 9*time.Minute+3*10*time.Second, Window(middleware.Compliancely()))
	assert.Equal(t, 2*time.Minute, Window(middleware.SalesIQ()))
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempt := 1; attempt < 100; attempt++ {
		whole := 5 * time.Minute
		if attempt < 10 {
			whole = time.Second << (attempt - 1)
		}
		pause := backoff(attempt)
		assert.GreaterOrEqual(t, pause, whole/2, attempt)
		assert.LessOrEqual(t, pause, whole, attempt)
	}
}

// TestRetryIsStoredOnce: through a restart, and after the work is done, as long
// as the server runs.
func TestRetryIsStoredOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := startEmbedded(dir, "")
	require.NoError(t, err)
	nc, err := e.connect()
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	q, err := NewQueue(t.Context(), js, QueueOptions{})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, q.Put(t.Context(), delivery("a")))
	}
	require.NoError(t, q.Put(t.Context(), delivery("b")))
	assert.Equal(t, 2, stored(t, js, "HOOKS"))
	shutdown(t, q)
	nc.Close()
	require.NoError(t, e.stop())

	js = startJetStream(t, dir)
	q = newQueue(t, js, QueueOptions{})
	require.NoError(t, q.Put(t.Context(), delivery("a")))
	assert.Equal(t, 2, stored(t, js, "HOOKS"))

	var mu sync.Mutex
	var got []*middleware.Delivery
	require.NoError(t, q.Work(t.Context(), func(_ context.Context, d *middleware.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, d)
		return nil
	}))
	eventually(t, func() bool { return stored(t, js, "HOOKS") == 0 }, 5*time.Second, "the queue is empty")
	require.NoError(t, q.Put(t.Context(), delivery("a")))
	assert.Equal(t, 0, stored(t, js, "HOOKS"))
	require.ErrorIs(t, q.Work(t.Context(), q.work), errClosed)
	shutdown(t, q)
	require.Len(t, got, 2)
	want := delivery(string(got[0].Body))
	want.ReceivedAt = got[0].ReceivedAt
	assert.Equal(t, want, got[0])
}

func TestRedeliveryAndDeadLetters(t *testing.T) {
	t.Parallel()
	js := startJetStream(t, t.TempDir())
	q := newQueue(t, js, QueueOptions{Attempts: 3, Backoff: soon})
	var mu sync.Mutex
	calls := make(map[string]int)
	require.NoError(t, q.Work(t.Context(), func(_ context.Context, d *middleware.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		name := string(d.Body)
		calls[name]++
		switch {
		case name == "fails once" && calls[name] == 1, name == "fails":
			return errors.Join(errAway, errors.New("no\r\nheader: "+strings.Repeat("é", 400)))
		case name == "panics":
			panic("a part of the body")
		}
		return nil
	}))
	for _, name := range []string{"works", "fails once", "fails", "panics"} {
		require.NoError(t, q.Put(t.Context(), delivery(name)))
	}
	_, err := js.Publish(t.Context(), "HOOKS.deliveries", []byte("not a Delivery"))
	require.NoError(t, err)
	eventually(t, func() bool { return stored(t, js, "HOOKS") == 0 }, 10*time.Second, "the queue is empty")
	shutdown(t, q)
	assert.Equal(t, map[string]int{"works": 1, "fails once": 2, "fails": 3, "panics": 3}, calls)

	dead, err := js.Stream(t.Context(), "HOOKS_DEAD")
	require.NoError(t, err)
	require.Equal(t, uint64(3), dead.CachedInfo().State.Msgs)
	letters := make(map[string]*jetstream.RawStreamMsg)
	for seq := uint64(1); seq <= 3; seq++ {
		m, err := dead.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		var d middleware.Delivery
		if json.Unmarshal(m.Data, &d) != nil {
			d.Body = m.Data
		}
		letters[string(d.Body)] = m
	}
	require.Len(t, letters, 3)
	fails := letters["fails"].Header
	assert.Equal(t, "3", fails.Get("Hooktrust-Attempts"))
	assert.Regexp(t, "^the database is away no header: é+$", fails.Get("Hooktrust-Error"))
	assert.LessOrEqual(t, len(fails.Get("Hooktrust-Error")), maxCause)
	assert.NotContains(t, letters["panics"].Header.Get("Hooktrust-Error"), "body")
	assert.Contains(t, letters["not a Delivery"].Header.Get("Hooktrust-Error"), "not the JSON")
}

// TestCrashesCount: a delivery that ends its process each time is buried, not
// tried for ever.
func TestCrashesCount(t *testing.T) {
	t.Parallel()
	js := startJetStream(t, t.TempDir())
	q := newQueue(t, js, QueueOptions{Attempts: 2, Backoff: soon})
	require.NoError(t, q.Put(t.Context(), delivery("crashes")))
	consumer, err := q.consumer(t.Context())
	require.NoError(t, err)
	for range 2 {
		msg, err := consumer.Next()
		require.NoError(t, err)
		require.NoError(t, msg.Nak()) // as JetStream does when AckWait is over
	}
	require.NoError(t, q.Work(t.Context(), func(context.Context, *middleware.Delivery) error {
		t.Error("a third attempt")
		return nil
	}))
	eventually(t, func() bool { return stored(t, js, "HOOKS_DEAD") == 1 && stored(t, js, "HOOKS") == 0 }, 5*time.Second, "it is buried")
}

// TestFullCemetery: what cannot be buried stays in the queue.
func TestFullCemetery(t *testing.T) {
	t.Parallel()
	js := startJetStream(t, t.TempDir())
	q := newQueue(t, js, QueueOptions{Attempts: 1, Backoff: soon, MaxBytes: 16 << 10})
	require.NoError(t, q.Work(t.Context(), func(context.Context, *middleware.Delivery) error { return errAway }))
	for _, name := range []string{"a", "b"} {
		require.NoError(t, q.Put(t.Context(), delivery(name+strings.Repeat(".", 2000))))
	}
	eventually(t, func() bool { return stored(t, js, "HOOKS_DEAD") == 1 && stored(t, js, "HOOKS") == 1 }, 5*time.Second, "one is buried")
	time.Sleep(50 * time.Millisecond)
	assert.Equal(t, 1, stored(t, js, "HOOKS"))
	dead, err := js.Stream(t.Context(), "HOOKS_DEAD")
	require.NoError(t, err)
	require.NoError(t, dead.Purge(t.Context()))
	eventually(t, func() bool { return stored(t, js, "HOOKS_DEAD") == 1 && stored(t, js, "HOOKS") == 0 }, 5*time.Second, "both are")
}

// TestBoundedInFlight: not more than Workers here, and not more than
// MaxInFlight in all.
func TestBoundedInFlight(t *testing.T) {
	t.Parallel()
	js := startJetStream(t, t.TempDir())
	var now, most atomic.Int64
	work := func(context.Context, *middleware.Delivery) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		return nil
	}
	queues := []*Queue{
		newQueue(t, js, QueueOptions{Workers: 4, MaxInFlight: 6}),
		newQueue(t, js, QueueOptions{Workers: 4, MaxInFlight: 6}),
	}
	for i := range 100 {
		require.NoError(t, queues[0].Put(t.Context(), delivery(body("%d", i))))
	}
	require.NoError(t, queues[0].Work(t.Context(), work))
	eventually(t, func() bool { return stored(t, js, "HOOKS") < 60 }, 10*time.Second, "some are done")
	assert.LessOrEqual(t, most.Load(), int64(4))
	require.NoError(t, queues[1].Work(t.Context(), work))
	eventually(t, func() bool { return stored(t, js, "HOOKS") == 0 }, 10*time.Second, "all are done")
	assert.LessOrEqual(t, most.Load(), int64(6))
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	t.Run("waits for the attempt under way", func(t *testing.T) {
		t.Parallel()
		js := startJetStream(t, t.TempDir())
		q := newQueue(t, js, QueueOptions{Workers: 1})
		begun := make(chan bool, 10)
		require.NoError(t, q.Work(t.Context(), func(context.Context, *middleware.Delivery) error {
			begun <- true
			time.Sleep(200 * time.Millisecond)
			return nil
		}))
		for _, name := range []string{"a", "b", "c", "d"} {
			require.NoError(t, q.Put(t.Context(), delivery(name)))
		}
		<-begun
		shutdown(t, q)
		left := stored(t, js, "HOOKS")
		assert.GreaterOrEqual(t, left, 2) // the attempt under way, and at most one that was on its way to the worker
		assert.Equal(t, 4-left, 1+len(begun))
		require.NoError(t, q.Put(t.Context(), delivery("e"))) // Put goes on
		require.ErrorIs(t, q.Work(t.Context(), q.work), errClosed)
	})
	t.Run("breaks an attempt off", func(t *testing.T) {
		t.Parallel()
		js := startJetStream(t, t.TempDir())
		q, err := NewQueue(t.Context(), js, QueueOptions{Workers: 1})
		require.NoError(t, err)
		begun := make(chan bool, 1)
		require.NoError(t, q.Work(t.Context(), func(ctx context.Context, _ *middleware.Delivery) error {
			begun <- true
			<-ctx.Done()
			return ctx.Err()
		}))
		require.NoError(t, q.Put(t.Context(), delivery("a")))
		<-begun
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, q.Shutdown(ctx), context.DeadlineExceeded)

		// Another goes on with it at once, and not after AckWait.
		c := newCounter()
		require.NoError(t, newQueue(t, js, QueueOptions{}).Work(t.Context(), c.work))
		eventually(t, func() bool { n, _ := c.of(); return n == 1 }, 5*time.Second, "another process goes on")
	})
	t.Run("while NATS is away", func(t *testing.T) {
		t.Parallel()
		e, err := startEmbedded(t.TempDir(), "")
		require.NoError(t, err)
		nc, err := e.connect()
		require.NoError(t, err)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		q, err := NewQueue(t.Context(), js, QueueOptions{})
		require.NoError(t, err)
		require.NoError(t, q.Work(t.Context(), newCounter().work))
		require.NoError(t, e.stop())
		eventually(t, func() bool { return !nc.IsConnected() }, 5*time.Second, "the connection is lost")
		begun := time.Now()
		require.Error(t, q.Put(t.Context(), delivery("a")))
		assert.Less(t, time.Since(begun), time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = q.Shutdown(ctx)
		assert.Less(t, time.Since(begun), 5*time.Second)
		nc.Close()
		done := make(chan bool)
		go func() { q.workers.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("workers have not ended")
		}
	})
}

// TestConsumerIsMadeAgain: if somebody deletes the consumer, the workers make
// another.
func TestConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	js := startJetStream(t, t.TempDir())
	q := newQueue(t, js, QueueOptions{Workers: 2})
	c := newCounter()
	require.NoError(t, q.Work(t.Context(), c.work))
	require.NoError(t, js.DeleteConsumer(t.Context(), "HOOKS", "workers"))
	require.NoError(t, q.Put(t.Context(), delivery("a")))
	eventually(t, func() bool { n, _ := c.of(); return n == 1 }, 15*time.Second, "the delivery is worked on")
}

// TestFullQueue: what a limit leaves no room for is answered 503, and is kept
// when there is room again.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		o       QueueOptions
		atLeast int
	}{
		"MaxMsgs":  {QueueOptions{MaxMsgs: 20}, 20},
		"MaxBytes": {QueueOptions{MaxBytes: 32 << 10}, 20},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := startJetStream(t, t.TempDir())
			q := newQueue(t, js, test.o)
			sender, url := receive(t, q, middleware.Haptik())
			acknowledged := make(map[string]bool)
			var refused []string
			for i := 0; len(refused) < 20; i++ {
				require.Less(t, i, 1000)
				b := body("%d", i)
				switch status := deliver(t, sender, url, b); status {
				case http.StatusOK:
					require.Empty(t, refused)
					acknowledged[delivery(b).ID()] = true
				case http.StatusServiceUnavailable:
					refused = append(refused, b)
				default:
					require.Fail(t, "status", status)
				}
			}
			assert.GreaterOrEqual(t, len(acknowledged), test.atLeast)
			assert.Equal(t, len(acknowledged), stored(t, js, "HOOKS"))

			c := newCounter()
			require.NoError(t, q.Work(t.Context(), c.work))
			for _, b := range refused {
				eventually(t, func() bool { return deliver(t, sender, url, b) == http.StatusOK }, 5*time.Second, "there is room again")
				acknowledged[delivery(b).ID()] = true
			}
			eventually(t, func() bool { return c.missing(acknowledged) == 0 }, 5*time.Second, "all are worked on")
			_, repeated := c.of()
			assert.Zero(t, repeated)
		})
	}
}

// TestLargestBody: the largest body that MaxBody allows fits, whatever bytes it
// and the header have.
func TestLargestBody(t *testing.T) {
	t.Parallel()
	js := startJetStream(t, t.TempDir())
	q := newQueue(t, js, QueueOptions{})
	d := delivery(strings.Repeat("\x00", int(MaxBody(1<<20))))
	d.Header = http.Header{"X": {strings.Repeat("\x01", 20<<10)}}
	require.NoError(t, q.Put(t.Context(), d))
	d.Body = make([]byte, 1<<20)
	require.Error(t, q.Put(t.Context(), d))
	assert.Zero(t, MaxBody(1000))
}
