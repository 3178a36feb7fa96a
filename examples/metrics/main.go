// Command metrics is a receiver for Haptik that is watched: by Prometheus,
// which scrapes it, and over OpenTelemetry.
//
//	HAPTIK_SECRET=… go run .
//
// It is made to be copied. observe.go says what is counted and how labels stay
// few; prometheus.go and otel.go each need it and not each other. dashboard.json
// is for Grafana and alerts.yaml for Prometheus. This file is the receiver
// around them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	nometrics "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	notraces "go.opentelemetry.io/otel/trace/noop"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const path = "/hooks/haptik"

// How long each part may take to stop, one after the other: together less than
// the 30 s that Kubernetes waits between SIGTERM and SIGKILL.
const (
	serverTime    = 10 * time.Second
	guardTime     = 10 * time.Second
	telemetryTime = 5 * time.Second
	pageTime      = time.Second
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	o := options{log: log, contract: middleware.Haptik()}
	var slow time.Duration
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "receive deliveries on `address`")
	flag.StringVar(&o.metrics, "metrics", "127.0.0.1:9464", "show the metrics on `address`, which must not be public")
	flag.DurationVar(&slow, "slow", 0, "let the handler take `duration`, to see late answers")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "metrics: unexpected argument %q\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	o.app = app(slow)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := start(ctx, o, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(1)
	}
}

// app is the application. It runs for verified deliveries only.
func app(slow time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(slow): // your work
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done(): // the Guard's Shutdown gives up
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
}

type options struct {
	listen, metrics string // addresses
	log             *slog.Logger
	contract        middleware.Contract
	app             http.Handler
	secrets         [][]byte
	meters          metric.MeterProvider
	traces          trace.TracerProvider
	ready           func(public, metrics net.Addr) // tests wait for it; may be nil
}

// start is run with what the environment says.
func start(ctx context.Context, o options, getenv func(string) string) (err error) {
	if o.secrets, err = secrets(getenv); err != nil {
		return err
	}
	t, err := newTelemetry(ctx, getenv, o.log)
	if err != nil {
		return err
	}
	o.meters, o.traces = t.meters, t.traces
	err = run(ctx, o)
	// Last, so that what is still to be sent has the stop in it.
	return errors.Join(err, within(ctx, telemetryTime, t.shutdown))
}

// secrets returns the current secret and, during a rotation, the previous one.
func secrets(getenv func(string) string) ([][]byte, error) {
	var list [][]byte
	for _, name := range []string{"HAPTIK_SECRET", "HAPTIK_SECRET_PREVIOUS"} {
		secret := getenv(name)
		switch {
		case secret == "" && len(list) == 0:
			return nil, fmt.Errorf("%s is not set: set it to the secret_key that you share with Haptik", name)
		case secret == "":
			continue
		case strings.ContainsAny(secret, "\r\n"):
			return nil, fmt.Errorf("%s has a line break in it, which would be part of the key: set it without", name)
		}
		list = append(list, []byte(secret))
	}
	return list, nil
}

// telemetry is where OpenTelemetry's metrics and spans go.
type telemetry struct {
	meters   metric.MeterProvider
	traces   trace.TracerProvider
	shutdown func(context.Context) error // sends what has not been sent
}

// newTelemetry sends over OTLP (HTTP with protobuf) to where
// OTEL_EXPORTER_OTLP_ENDPOINT says, such as http://localhost:4318, and nowhere
// if it is not set. OTEL_SERVICE_NAME and the other variables of OpenTelemetry's
// SDK apply.
func newTelemetry(ctx context.Context, getenv func(string) string, log *slog.Logger) (*telemetry, error) {
	if getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return &telemetry{
			meters: nometrics.NewMeterProvider(), traces: notraces.NewTracerProvider(),
			shutdown: func(context.Context) error { return nil },
		}, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry: " + err.Error()) }))
	about, err := resource.New(ctx, // the later ones win
		resource.WithAttributes(attribute.String("service.name", "hooktrust-receiver")),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	metrics, err := otlpmetrichttp.New(ctx)
	if err != nil {
		return nil, err
	}
	spans, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, errors.Join(err, metrics.Shutdown(ctx))
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics)))
	traces := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(spans))
	return &telemetry{
		meters: meters, traces: traces,
		shutdown: func(ctx context.Context) error {
			return errors.Join(meters.Shutdown(ctx), traces.Shutdown(ctx))
		},
	}, nil
}

// run receives until ctx is over or a server fails, and then stops in order.
func run(ctx context.Context, o options) error {
	verifier, err := hmac.New(hmac.Haptik(), o.secrets...)
	if err != nil {
		return err
	}
	page, registry := newMetricsPage()
	toPrometheus, err := newPrometheus(registry, o.contract.Sender)
	if err != nil {
		return err
	}
	toOTel, err := newOTel(o.meters, o.traces)
	if err != nil {
		return err
	}
	guard := &middleware.Guard{
		Verifier: verifier,
		Contract: o.contract,
		Observe:  observe(logged(o.log), toPrometheus, toOTel),
	}
	receiver := marked(guard.Handler(o.app))
	public := http.NewServeMux()
	public.Handle(path, traced(o.traces.Tracer(scope), "webhook "+o.contract.Sender, receiver))

	// The metrics have a listener of their own. The public one is open to the
	// internet, and they tell whose webhooks you receive, how many, when keys
	// are rotated, and to whoever tries forgeries how they were refused. Besides, a
	// public server that is busy or stopping must not hide that it is.
	private := http.NewServeMux()
	private.Handle("GET /metrics", page)

	publicServer := newServer(public, o.log)
	if need := o.contract.Deadline + 5*time.Second; need > publicServer.WriteTimeout {
		publicServer.WriteTimeout = need
	}
	privateServer := newServer(private, o.log)

	var config net.ListenConfig
	privateListener, err := config.Listen(ctx, "tcp", o.metrics)
	if err != nil {
		return fmt.Errorf("-metrics: %w", err)
	}
	publicListener, err := config.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return errors.Join(fmt.Errorf("-listen: %w", err), privateListener.Close())
	}
	served := make(chan error, 2)
	go func() { served <- privateServer.Serve(privateListener) }()
	go func() { served <- publicServer.Serve(publicListener) }()
	o.log.Info("listening", "addr", publicListener.Addr().String(), "path", path,
		"metrics", "http://"+privateListener.Addr().String()+"/metrics")
	if o.ready != nil {
		o.ready(publicListener.Addr(), privateListener.Addr())
	}

	select {
	case <-ctx.Done():
		o.log.Info("stopping")
	case err = <-served:
	}
	// A handler that has outlived its answer keeps its connection busy, so the
	// server's Shutdown may run out of time. The Guard knows what is left.
	if stopErr := within(ctx, serverTime, publicServer.Shutdown); !errors.Is(stopErr, context.DeadlineExceeded) {
		err = errors.Join(err, stopErr)
	}
	err = errors.Join(err, within(ctx, guardTime, guard.Shutdown), publicServer.Close())
	// The metrics stay to be scraped until the rest has stopped.
	return errors.Join(err, within(ctx, pageTime, privateServer.Shutdown))
}

// logged is an observer that logs what the Guard would if it had no Observe.
func logged(log *slog.Logger) observer {
	return func(r *http.Request, res middleware.Result, _ bool) {
		level := slog.LevelWarn
		switch res.Outcome {
		case middleware.Panicked:
			level = slog.LevelError
		case middleware.Probed, middleware.Repeated:
			level = slog.LevelDebug
		case middleware.Accepted, middleware.LateDone:
			if res.Err == nil && res.Status/100 == 2 {
				level = slog.LevelDebug
			}
		}
		attrs := []slog.Attr{
			slog.String("sender", res.Sender),
			slog.String("outcome", res.Outcome.String()),
			slog.Int("status", res.Status),
			slog.Int("key", res.Key),
			slog.Int("size", res.Size),
			slog.Duration("elapsed", res.Elapsed),
			slog.String("remote", r.RemoteAddr),
		}
		if res.Err != nil {
			attrs = append(attrs, slog.Any("err", res.Err))
		}
		if res.Stack != "" {
			attrs = append(attrs, slog.String("stack", res.Stack))
		}
		log.LogAttrs(r.Context(), level, "webhook request", attrs...)
	}
}

// newServer returns a server that no client can hold up for long.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // longer than the contract's deadline, or the answer finds the connection closed
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// within calls f with a context that ends after limit, and not with ctx, which
// is over.
func within(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return f(ctx)
}
