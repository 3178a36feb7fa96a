package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// BenchmarkAcknowledge measures deliveries acknowledged per second, and the
// time from the request to the answer as the sender sees it. The embedded
// server syncs each delivery to disk before it answers; the Pool keeps
// deliveries in memory and is there to compare with. Senders and receiver share
// the machine.
//
//	go test -run '^$' -bench . -benchtime 3s
//
// Deliveries are worked on meanwhile, by work that does nothing; the rows
// "receive only" leave that to another process.
func BenchmarkAcknowledge(b *testing.B) {
	nothing := func(context.Context, *middleware.Delivery) error { return nil }
	queue := func(b *testing.B, workers, store bool) (func(context.Context, *middleware.Delivery) error, middleware.Store) {
		js := startJetStream(b, b.TempDir())
		q := newQueue(b, js, QueueOptions{Window: Window(middleware.Haptik()), MaxBytes: 4 << 30})
		if workers {
			require.NoError(b, q.Work(b.Context(), nothing))
		}
		if !store {
			return q.Put, nil
		}
		s, err := NewStore(b.Context(), js, StoreOptions{Window: Window(middleware.Haptik()), MaxBytes: 4 << 30})
		require.NoError(b, err)
		return q.Put, s
	}
	receivers := []struct {
		name string
		make func(*testing.B) (func(context.Context, *middleware.Delivery) error, middleware.Store)
	}{
		{"Pool", func(b *testing.B) (func(context.Context, *middleware.Delivery) error, middleware.Store) {
			pool := middleware.NewPool(nothing, middleware.PoolOptions{Backlog: 1 << 20})
			b.Cleanup(func() { require.NoError(b, pool.Shutdown(context.Background())) })
			return pool.Put, nil
		}},
		{"Queue", func(b *testing.B) (func(context.Context, *middleware.Delivery) error, middleware.Store) {
			return queue(b, true, false)
		}},
		{"Queue receive only", func(b *testing.B) (func(context.Context, *middleware.Delivery) error, middleware.Store) {
			return queue(b, false, false)
		}},
		{"Queue and Store", func(b *testing.B) (func(context.Context, *middleware.Delivery) error, middleware.Store) {
			return queue(b, true, true)
		}},
	}
	for _, receiver := range receivers {
		for _, senders := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/senders=%d", receiver.name, senders), func(b *testing.B) {
				put, store := receiver.make(b)
				guard, err := newGuard(config{secrets: [][]byte{[]byte(secret)}}, middleware.Haptik(), 1<<20)
				require.NoError(b, err)
				guard.Store = store
				server := httptest.NewServer(guard.Handler(middleware.Ack(put)))
				b.Cleanup(server.Close)
				measure(b, server.URL, senders)
			})
		}
	}
}

// measure delivers b.N deliveries of 1 KiB from so many senders at one time.
func measure(b *testing.B, url string, senders int) {
	transport := &http.Transport{MaxIdleConnsPerHost: senders}
	b.Cleanup(transport.CloseIdleConnections)
	sender := haptik()
	sender.Client = &http.Client{Transport: transport}
	sender.Contract.Retries = nil
	padding := fmt.Sprintf("%0900d", 0)
	times := make([]time.Duration, b.N)
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range senders {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				report, err := sender.Deliver(context.Background(), url, []byte(body("%d %s", i, padding)))
				if err != nil || report.GaveUp {
					failed.Add(1)
					continue
				}
				times[i-1] = report.Attempts[0].Elapsed
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	require.Zero(b, failed.Load(), "deliveries not acknowledged")
	slices.Sort(times)
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acknowledged/s")
	b.ReportMetric(milliseconds(times[b.N/2]), "median-ms")
	b.ReportMetric(milliseconds(times[b.N*99/100]), "99th-ms")
	b.ReportMetric(0, "ns/op") // left out
}
