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

	"github.com/hooktrust/hooktrust/middleware"
)

// BenchmarkAcknowledged measures deliveries over loopback, from the request to
// the answer, with a signature, a commit and workers that do nothing.
func BenchmarkAcknowledged(b *testing.B) {
	for _, senders := range []int{1, 16} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			rc := newTestReceiver(b, newDatabase(b), func(context.Context, *middleware.Delivery) error { return nil }, QueueOptions{})
			start(b, rc)
			rc.guard.Observe = func(*http.Request, middleware.Result) {}
			server := httptest.NewServer(rc.server().Handler)
			defer server.Close()
			sender := haptik(secret)
			transport := &http.Transport{MaxIdleConnsPerHost: senders}
			defer transport.CloseIdleConnections()
			sender.Client = &http.Client{Transport: transport}
			deliver := func(body string) {
				report, err := sender.Deliver(b.Context(), server.URL+path, []byte(body))
				if err != nil || len(report.Attempts) != 1 || report.GaveUp {
					b.Errorf("%v %v", report, err)
				}
			}
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range senders {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						begun := time.Now()
						deliver(fmt.Sprintf(`{"event_name":"webhook_conversation_complete_partial","data":{"conversation_no":%d}}`, i))
						took[i] = time.Since(begun)
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}
