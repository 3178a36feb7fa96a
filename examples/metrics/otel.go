package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/hooktrust/hooktrust/middleware"
)

// scope is who measures. Name your own package here.
const scope = "github.com/hooktrust/hooktrust/examples/metrics"

// newOTel makes instruments of meters and returns the observer that records to
// them, and that adds an event "webhook" to the span in the request's context.
//
// If that span has ended, as it may have when the answer was late, the event
// would be lost; then a span of its own, a child of that one, tells it.
func newOTel(meters metric.MeterProvider, traces trace.TracerProvider) (observer, error) {
	meter, tracer := meters.Meter(scope), traces.Tracer(scope)
	var errs [7]error
	var (
		requests, refusals, deliveries, late metric.Int64Counter
		duration, lateDuration               metric.Float64Histogram
		size                                 metric.Int64Histogram
	)
	requests, errs[0] = meter.Int64Counter("hooktrust.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests by the outcome that the answer had and the class of its status. Each request counts once."))
	refusals, errs[1] = meter.Int64Counter("hooktrust.refusals", metric.WithUnit("{request}"),
		metric.WithDescription("Requests that did not verify, by what was wrong with the signature."))
	deliveries, errs[2] = meter.Int64Counter("hooktrust.verified_deliveries", metric.WithUnit("{delivery}"),
		metric.WithDescription("Deliveries that verified, by the index of the key that matched."))
	late, errs[3] = meter.Int64Counter("hooktrust.late_handlers", metric.WithUnit("{handler}"),
		metric.WithDescription("Handlers that ended after their request was answered for them, by how."))
	duration, errs[4] = meter.Float64Histogram("hooktrust.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's arrival to its answer."),
		metric.WithExplicitBucketBoundaries(secondsBuckets...))
	lateDuration, errs[5] = meter.Float64Histogram("hooktrust.late_handler.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's arrival to the end of a handler that outlived the answer."),
		metric.WithExplicitBucketBoundaries(secondsBuckets...))
	size, errs[6] = meter.Int64Histogram("hooktrust.delivery.size", metric.WithUnit("By"),
		metric.WithDescription("Size of the bodies that verified."),
		metric.WithExplicitBucketBoundaries(bytesBuckets...))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}

	return func(r *http.Request, res middleware.Result, afterwards bool) {
		// The request may be over, and its context with it; what is in it counts.
		ctx := context.WithoutCancel(r.Context())
		sender := attribute.String("hooktrust.sender", res.Sender)
		outcome := attribute.String("hooktrust.outcome", res.Outcome.String())
		status := attribute.String("hooktrust.status_class", statusLabel(res.Status))
		key := attribute.String("hooktrust.key", keyLabel(res.Key))

		// A span's attributes may have any values: they make no time series.
		tell(ctx, tracer, res, []attribute.KeyValue{sender, outcome, key,
			attribute.Int("hooktrust.status", res.Status),
			attribute.Int("hooktrust.size", res.Size),
			attribute.Float64("hooktrust.elapsed", res.Elapsed.Seconds()),
			attribute.Bool("hooktrust.afterwards", afterwards),
		})
		seconds := res.Elapsed.Seconds()
		if afterwards {
			late.Add(ctx, 1, metric.WithAttributes(sender, outcome, status))
			lateDuration.Record(ctx, seconds, metric.WithAttributes(sender))
			return
		}
		requests.Add(ctx, 1, metric.WithAttributes(sender, outcome, status))
		duration.Record(ctx, seconds, metric.WithAttributes(sender, outcome))
		if res.Outcome == middleware.Refused {
			refusals.Add(ctx, 1, metric.WithAttributes(sender, attribute.String("hooktrust.reason", reasonLabel(res.Err))))
		}
		if verified(res.Outcome) {
			deliveries.Add(ctx, 1, metric.WithAttributes(sender, key))
			size.Record(ctx, int64(res.Size), metric.WithAttributes(sender))
		}
	}, nil
}

// tell puts an event on ctx's span, or what it would have been on a span of its
// own. Result.Err may go into a trace, as into a log: it has no secret and
// nothing of the body, unless your own Store or put has put it there.
func tell(ctx context.Context, tracer trace.Tracer, res middleware.Result, attrs []attribute.KeyValue) {
	if res.Err != nil {
		attrs = append(attrs, attribute.String("hooktrust.error", res.Err.Error()))
	}
	span := trace.SpanFromContext(ctx)
	switch {
	case span.IsRecording():
		span.AddEvent("webhook", trace.WithAttributes(attrs...))
	case span.SpanContext().IsSampled():
		now := time.Now()
		_, span = tracer.Start(ctx, "webhook", trace.WithAttributes(attrs...), trace.WithTimestamp(now.Add(-res.Elapsed)))
		defer span.End(trace.WithTimestamp(now))
	default:
		return
	}
	if res.Status >= 500 || res.Outcome == middleware.Panicked {
		span.SetStatus(codes.Error, res.Outcome.String())
	}
}

// traced starts a span for each request, for a receiver that has no such
// middleware yet. It takes no trace context from the request: a stranger would
// choose which of your traces a forgery shows up in.
//
// It leaves the ResponseWriter alone. Middleware that wraps it makes the Guard
// run handlers in goroutines of their own, so that spans end with late answers.
func traced(tracer trace.Tracer, name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, span := tracer.Start(r.Context(), name, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
