package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

// recorded returns what series returns, of OpenTelemetry's metrics.
func recorded(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &data))
	all := make(map[string]float64)
	add := func(name string, set attribute.Set, value float64) {
		words := []string{name}
		for _, kv := range set.ToSlice() { // sorted by key: outcome before sender and status
			if kv.Key != "hooktrust.sender" {
				words = append(words, kv.Value.AsString())
			}
		}
		all[strings.Join(words, " ")] = value
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				assert.True(t, d.IsMonotonic)
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, float64(p.Value))
				}
			case metricdata.Histogram[float64]:
				assert.Equal(t, "s", m.Unit)
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, float64(p.Count))
				}
			case metricdata.Histogram[int64]:
				assert.Equal(t, "By", m.Unit)
				for _, p := range d.DataPoints {
					add(m.Name, p.Attributes, float64(p.Count))
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return all
}

func TestOTelCountsTheSame(t *testing.T) {
	t.Parallel()
	w := watch(t)
	w.play()
	prom := series(w.scrape())
	require.NoError(t, w.stop()) // all has been told
	got := recorded(t, w.reader)

	names := map[string]string{
		"hooktrust_requests_total":                "hooktrust.requests",
		"hooktrust_refusals_total":                "hooktrust.refusals",
		"hooktrust_verified_deliveries_total":     "hooktrust.verified_deliveries",
		"hooktrust_request_duration_seconds":      "hooktrust.request.duration",
		"hooktrust_delivery_size_bytes":           "hooktrust.delivery.size",
		"hooktrust_late_handlers_total":           "hooktrust.late_handlers",
		"hooktrust_late_handler_duration_seconds": "hooktrust.late_handler.duration",
	}
	want := make(map[string]float64)
	for name, value := range prom {
		first, rest, found := strings.Cut(name, " ")
		require.Contains(t, names, first)
		name = names[first]
		if found {
			name += " " + rest
		}
		want[name] = value
	}
	assert.Equal(t, want, got)
	assert.Equal(t, 3.0, got["hooktrust.requests late 2xx"])
}

// attributes returns those of an event or a span as strings.
func attributes(list []attribute.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, kv := range list {
		m[strings.TrimPrefix(string(kv.Key), "hooktrust.")] = kv.Value.String()
	}
	return m
}

func TestSpanEvents(t *testing.T) {
	t.Parallel()
	w := watch(t)
	w.play()
	require.NoError(t, w.stop())
	spans := w.spans.Ended()
	require.Len(t, spans, 18, "one for each request, and none of its own for what came late: the handlers kept theirs")

	told := make(map[string]int) // outcomes of a span in the order told
	for _, span := range spans {
		var outcomes []string
		for _, e := range span.Events() {
			require.Equal(t, "webhook", e.Name)
			a := attributes(e.Attributes)
			assert.Equal(t, "haptik", a["sender"])
			outcomes = append(outcomes, a["outcome"])
			assert.Equal(t, a["outcome"] == "late_done" || len(outcomes) == 2, a["afterwards"] == "true")
			switch a["outcome"] {
			case "accepted":
				assert.Contains(t, []string{"0", "1"}, a["key"])
			case "refused":
				assert.Equal(t, "none", a["key"])
				assert.Equal(t, "401", a["status"])
				assert.Contains(t, a["error"], "not verified")
				assert.NotEqual(t, codes.Error, span.Status().Code, "that is the client's fault")
			case "panicked":
				assert.Equal(t, codes.Error, span.Status().Code)
			}
			for _, value := range a {
				assert.NotContains(t, value, string(w.current))
				assert.NotContains(t, value, `{"n"`)
			}
		}
		told[strings.Join(outcomes, ", ")]++
	}
	assert.Equal(t, map[string]int{
		"accepted": 6, "refused": 4, "probed": 1, "bad_method": 2, "too_large": 1, "panicked": 1,
		"late, late_done": 2, "late, panicked": 1,
	}, told)
}

// TestSpanThatHasEnded is about a writer that is not the server's own, where
// the request is over when the late answer is.
func TestSpanThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		o, err := newOTel(sdkmetric.NewMeterProvider(), traces)
		require.NoError(t, err)
		verifier, err := hmac.New(hmac.Haptik(), []byte("secret"))
		require.NoError(t, err)
		guard := &middleware.Guard{Verifier: verifier, Contract: middleware.Haptik(), Observe: observe(o)}
		h := traced(traces.Tracer(scope), "webhook haptik", marked(guard.Handler(app(time.Minute))))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
		value, err := hmac.Sign(hmac.Haptik(), []byte("secret"), []byte("{}"))
		require.NoError(t, err)
		r.Header.Set(hmac.Haptik().Header, value)
		h.ServeHTTP(httptest.NewRecorder(), r)
		require.NoError(t, guard.Shutdown(t.Context()))

		ended := spans.Ended()
		i := slices.IndexFunc(ended, func(s sdktrace.ReadOnlySpan) bool { return s.Name() == "webhook haptik" })
		require.GreaterOrEqual(t, i, 0)
		parent := ended[i].SpanContext()
		var outcomes []string
		for _, span := range ended {
			if span.Name() != "webhook" {
				continue
			}
			assert.Equal(t, parent.SpanID(), span.Parent().SpanID())
			a := attributes(span.Attributes())
			outcomes = append(outcomes, a["outcome"])
			if a["outcome"] == "late_done" {
				assert.Equal(t, time.Minute, span.EndTime().Sub(span.StartTime()))
				assert.Equal(t, "true", a["afterwards"])
			}
		}
		assert.Contains(t, outcomes, "late_done")
	})
}

func TestNoSpanNoEvent(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.NeverSample()))
	o, err := newOTel(sdkmetric.NewMeterProvider(), traces)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for _, h := range []http.Handler{
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { o(r, middleware.Result{}, false) }),
		traced(traces.Tracer(scope), "not sampled", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { o(r, middleware.Result{}, false) })),
	} {
		wg.Go(func() {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody))
		})
	}
	wg.Wait()
	assert.Empty(t, spans.Ended())
}
