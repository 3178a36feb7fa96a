package main

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hooktrust/hooktrust/middleware"
)

// newPrometheus registers the metrics with reg and returns the observer that
// counts. senders are the names in the Guards' contracts: their counters begin
// at 0 and not with the first event, which Prometheus's increase and rate would
// not see, and an alert on panics would wait for the second one.
func newPrometheus(reg prometheus.Registerer, senders ...string) (observer, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hooktrust_requests_total",
		Help: "Requests by the outcome that the answer had and the class of its status. Each request counts once.",
	}, []string{"sender", "outcome", "status"})
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hooktrust_refusals_total",
		Help: "Requests that did not verify, by what was wrong with the signature. They are among the requests, too.",
	}, []string{"sender", "reason"})
	deliveries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hooktrust_verified_deliveries_total",
		Help: "Deliveries that verified, by the index of the key that matched. A rotation is over when none matches the previous key any more.",
	}, []string{"sender", "key"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hooktrust_request_duration_seconds",
		Help:    "Time from a request's arrival to its answer.",
		Buckets: secondsBuckets,
	}, []string{"sender", "outcome"})
	size := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hooktrust_delivery_size_bytes",
		Help:    "Size of the bodies that verified.",
		Buckets: bytesBuckets,
	}, []string{"sender"})
	late := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hooktrust_late_handlers_total",
		Help: "Handlers that ended after their request was answered for them, by how, and the class of the status that nobody got.",
	}, []string{"sender", "outcome", "status"})
	lateDuration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "hooktrust_late_handler_duration_seconds",
		Help:    "Time from a request's arrival to the end of a handler that outlived the answer.",
		Buckets: secondsBuckets,
	}, []string{"sender"})

	var errs []error
	for _, c := range []prometheus.Collector{requests, refusals, deliveries, duration, size, late, lateDuration} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, sender := range senders {
		for outcome, classes := range usualStatus {
			for _, status := range classes {
				requests.WithLabelValues(sender, outcome.String(), status)
			}
		}
		for outcome, classes := range usualLateStatus {
			for _, status := range classes {
				late.WithLabelValues(sender, outcome.String(), status)
			}
		}
		for _, reason := range []string{reasonMissing, reasonMalformed, reasonMismatch, reasonOther} {
			refusals.WithLabelValues(sender, reason)
		}
		for _, key := range []int{0, 1} { // the current and the previous one
			deliveries.WithLabelValues(sender, keyLabel(key))
		}
	}

	return func(_ *http.Request, res middleware.Result, afterwards bool) {
		outcome, status := res.Outcome.String(), statusLabel(res.Status)
		seconds := res.Elapsed.Seconds()
		if afterwards {
			late.WithLabelValues(res.Sender, outcome, status).Inc()
			lateDuration.WithLabelValues(res.Sender).Observe(seconds)
			return
		}
		requests.WithLabelValues(res.Sender, outcome, status).Inc()
		duration.WithLabelValues(res.Sender, outcome).Observe(seconds)
		if res.Outcome == middleware.Refused {
			refusals.WithLabelValues(res.Sender, reasonLabel(res.Err)).Inc()
		}
		if verified(res.Outcome) {
			deliveries.WithLabelValues(res.Sender, keyLabel(res.Key)).Inc()
			size.WithLabelValues(res.Sender).Observe(float64(res.Size))
		}
	}, nil
}

// usualStatus is what each outcome is answered with, as far as it is known
// beforehand.
var usualStatus = map[middleware.Outcome][]string{
	middleware.Accepted:         {"2xx", "4xx", "5xx"},
	middleware.Probed:           {"2xx"},
	middleware.Refused:          {"4xx"},
	middleware.BadMethod:        {"4xx"},
	middleware.TooLarge:         {"4xx"},
	middleware.TooSlow:          {"4xx"},
	middleware.CutOff:           {"4xx"},
	middleware.Panicked:         {"5xx", "none"},
	middleware.Late:             {"2xx", "5xx"},
	middleware.Overloaded:       {"5xx"},
	middleware.Repeated:         {"2xx"},
	middleware.Pending:          {"5xx"},
	middleware.Forbidden:        {"5xx"},
	middleware.ResponseTooLarge: {"5xx"},
}

var usualLateStatus = map[middleware.Outcome][]string{
	middleware.LateDone: {"2xx", "4xx", "5xx"},
	middleware.Panicked: {"2xx", "5xx", "none"},
}

// newMetricsPage returns the page that Prometheus scrapes and the registry
// behind it, which has what Go and the operating system know of the process.
func newMetricsPage() (http.Handler, *prometheus.Registry) {
	reg := prometheus.NewRegistry() // not the global one, to which any package may add
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		Registry:            reg,
		MaxRequestsInFlight: 4,
	}), reg
}
