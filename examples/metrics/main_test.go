package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	nometrics "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	notraces "go.opentelemetry.io/otel/trace/noop"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

// watched is a receiver that runs, with everything that watches it.
type watched struct {
	t        *testing.T
	public   string // URL
	metrics  string // URL of the page
	current  []byte // key 0
	previous []byte // key 1
	reader   *sdkmetric.ManualReader
	spans    *tracetest.SpanRecorder
	log      *lockedBuffer
	release  func()       // lets late handlers end
	stop     func() error // stops the receiver and returns what run did
}

// lockedBuffer is a log that may be written and read at one time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// deadline of the contract in tests: its answers leave after three quarters.
const deadline = 2 * time.Second

// watch starts a receiver whose handler does what the body says.
func watch(t *testing.T) *watched {
	t.Helper()
	released := make(chan struct{})
	w := &watched{
		t: t, current: []byte(rand.Text()), previous: []byte(rand.Text()),
		reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder(), log: new(lockedBuffer),
		release: sync.OnceFunc(func() { close(released) }),
	}
	contract := middleware.Haptik()
	contract.Deadline = deadline
	contract.Probe = []string{http.MethodHead}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		done <- run(ctx, options{
			listen: "127.0.0.1:0", metrics: "127.0.0.1:0",
			log:      slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			contract: contract,
			app: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				d, _ := middleware.FromContext(r.Context())
				what := string(d.Body)
				if strings.Contains(what, "late") {
					<-released
				}
				if strings.Contains(what, "panic") {
					panic("as told")
				}
				if strings.Contains(what, "fail") {
					rw.WriteHeader(http.StatusServiceUnavailable)
				}
			}),
			secrets: [][]byte{w.current, w.previous},
			meters:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader)),
			traces:  sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.spans)),
			ready: func(public, metrics net.Addr) {
				w.public, w.metrics = "http://"+public.String(), "http://"+metrics.String()+"/metrics"
				close(ready)
			},
		})
	}()
	w.stop = sync.OnceValue(func() error {
		w.release()
		cancel()
		return <-done
	})
	t.Cleanup(func() { assert.NoError(t, w.stop()) })
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return w
}

var client = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second},
}

// deliver sends body, signed with secret if that is not nil, and returns the
// answer's status.
func (w *watched) deliver(method string, body string, secret []byte, change func(*http.Request)) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.public+path, strings.NewReader(body))
	require.NoError(w.t, err)
	if secret != nil {
		value, err := hmac.Sign(hmac.Haptik(), secret, []byte(body))
		require.NoError(w.t, err)
		req.Header.Set(hmac.Haptik().Header, value)
	}
	if change != nil {
		change(req)
	}
	res, err := client.Do(req)
	require.NoError(w.t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(w.t, err)
	require.NoError(w.t, res.Body.Close())
	return res.StatusCode
}

// scrape reads the page as Prometheus does.
func (w *watched) scrape() map[string]*dto.MetricFamily {
	w.t.Helper()
	res, err := client.Get(w.metrics)
	require.NoError(w.t, err)
	defer res.Body.Close()
	require.Equal(w.t, http.StatusOK, res.StatusCode)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	require.NoError(w.t, err)
	return families
}

// series returns the values of our metrics that are not 0, by name and labels.
// Of a histogram it returns the count.
func series(families map[string]*dto.MetricFamily) map[string]float64 {
	all := make(map[string]float64)
	for name, family := range families {
		if !strings.HasPrefix(name, "hooktrust_") {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "sender" {
					labels = append(labels, l.GetValue())
				}
			}
			value := m.GetCounter().GetValue()
			if family.GetType() == dto.MetricType_HISTOGRAM {
				value = float64(m.GetHistogram().GetSampleCount())
			}
			if value != 0 {
				all[strings.Join(append([]string{name}, labels...), " ")] = value
			}
		}
	}
	return all
}

// play sends one delivery and more of every kind, and waits until the receiver
// has told of all.
func (w *watched) play() {
	t := w.t
	for range 3 {
		assert.Equal(t, 200, w.deliver("POST", `{"n":1}`, w.current, nil))
	}
	for range 2 {
		assert.Equal(t, 200, w.deliver("POST", `{"n":2}`, w.previous, nil))
	}
	assert.Equal(t, 503, w.deliver("POST", `fail`, w.current, nil))
	assert.Equal(t, 401, w.deliver("POST", `{"n":1}`, w.current, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(`{"n":0}`)) // tampered
	}))
	assert.Equal(t, 401, w.deliver("POST", `{"n":1}`, []byte("another's"), nil))
	assert.Equal(t, 401, w.deliver("POST", `{"n":1}`, nil, nil))
	assert.Equal(t, 401, w.deliver("POST", `{"n":1}`, nil, func(r *http.Request) {
		r.Header.Set(hmac.Haptik().Header, "sha1=short")
	}))
	assert.Equal(t, 200, w.deliver("HEAD", "", nil, nil))
	assert.Equal(t, 405, w.deliver("GET", "", nil, nil))
	assert.Equal(t, 405, w.deliver("STRANGE", "", nil, nil))
	assert.Equal(t, 413, w.deliver("POST", strings.Repeat("a", 1<<20+1), w.current, func(r *http.Request) {
		r.Header.Set("Expect", "100-continue") // or the answer may be lost to the bytes that nobody reads
	}))
	assert.Equal(t, 500, w.deliver("POST", `panic`, w.current, nil))
	var together sync.WaitGroup
	for _, body := range []string{"late", "late, fail", "late, panic"} {
		together.Go(func() { assert.Equal(t, 200, w.deliver("POST", body, w.current, nil)) })
	}
	together.Wait()
	// The answer is there before the observer is told, so a scrape may be early.
	w.eventually("hooktrust_requests_total late 2xx", 3)
	w.release()
	w.eventually("hooktrust_late_handler_duration_seconds", 3)
	w.eventually("hooktrust_requests_total panicked 5xx", 1)
}

func (w *watched) eventually(name string, value float64) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return series(w.scrape())[name] == value },
		5*time.Second, 5*time.Millisecond, "%s is not %v", name, value)
}

func TestScraped(t *testing.T) {
	t.Parallel()
	w := watch(t)
	assert.Empty(t, series(w.scrape()), "everything begins at 0")
	w.play()

	families := w.scrape()
	assert.Equal(t, map[string]float64{
		"hooktrust_requests_total accepted 2xx":   5,
		"hooktrust_requests_total accepted 5xx":   1,
		"hooktrust_requests_total refused 4xx":    4,
		"hooktrust_requests_total probed 2xx":     1,
		"hooktrust_requests_total bad_method 4xx": 2,
		"hooktrust_requests_total too_large 4xx":  1,
		"hooktrust_requests_total panicked 5xx":   1, // and not the one after its late answer
		"hooktrust_requests_total late 2xx":       3,

		"hooktrust_refusals_total mismatch":  2,
		"hooktrust_refusals_total missing":   1,
		"hooktrust_refusals_total malformed": 1,

		"hooktrust_verified_deliveries_total 0": 3 + 1 + 1 + 3,
		"hooktrust_verified_deliveries_total 1": 2,

		"hooktrust_late_handlers_total late_done 2xx": 1,
		"hooktrust_late_handlers_total late_done 5xx": 1,
		"hooktrust_late_handlers_total panicked 5xx":  1,

		"hooktrust_request_duration_seconds accepted":   6,
		"hooktrust_request_duration_seconds refused":    4,
		"hooktrust_request_duration_seconds probed":     1,
		"hooktrust_request_duration_seconds bad_method": 2,
		"hooktrust_request_duration_seconds too_large":  1,
		"hooktrust_request_duration_seconds panicked":   1,
		"hooktrust_request_duration_seconds late":       3,

		"hooktrust_delivery_size_bytes":           10,
		"hooktrust_late_handler_duration_seconds": 3,
	}, series(families))

	sizes := families["hooktrust_delivery_size_bytes"].GetMetric()
	require.Len(t, sizes, 1)
	want := 5*len(`{"n":1}`) + len("fail") + len("panic") + len("late") + len("late, fail") + len("late, panic")
	assert.Equal(t, float64(want), sizes[0].GetHistogram().GetSampleSum())
	for _, m := range families["hooktrust_request_duration_seconds"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "outcome" && l.GetValue() == "late" {
				mean := m.GetHistogram().GetSampleSum() / 3
				assert.GreaterOrEqual(t, mean, (deadline * 3 / 4).Seconds(), "a late answer leaves when it is due")
			}
		}
	}
	assert.Contains(t, families, "go_goroutines")

	require.NoError(t, w.stop())
	log := w.log.String()
	assert.Equal(t, 18+3, strings.Count(log, `msg="webhook request"`))
	assert.NotContains(t, log, string(w.current))
	assert.NotContains(t, log, string(w.previous))
	assert.NotContains(t, log, `{"n"`)
}

// TestEverySeriesIsThereFromTheBeginning: rate and increase do not see a series'
// first value, so one that appears with its first event hides it.
func TestEverySeriesIsThereFromTheBeginning(t *testing.T) {
	t.Parallel()
	w := watch(t)
	before := w.scrape()
	w.play()
	after := w.scrape()
	for _, name := range []string{
		"hooktrust_requests_total", "hooktrust_refusals_total",
		"hooktrust_verified_deliveries_total", "hooktrust_late_handlers_total",
	} {
		assert.Len(t, after[name].GetMetric(), len(before[name].GetMetric()), name)
	}
}

func TestMetricsAreNotPublic(t *testing.T) {
	t.Parallel()
	w := watch(t)
	for _, url := range []string{
		w.public + "/metrics",
		strings.TrimSuffix(w.metrics, "/metrics") + path,
	} {
		res, err := client.Get(url)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		assert.Equal(t, http.StatusNotFound, res.StatusCode, url)
	}
}

func TestAddressesInUse(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	taken := listener.Addr().String()
	for flag, o := range map[string]options{
		"-metrics": {listen: "127.0.0.1:0", metrics: taken},
		"-listen":  {listen: taken, metrics: "127.0.0.1:0"},
	} {
		o.log, o.contract, o.app = slog.New(slog.DiscardHandler), middleware.Haptik(), app(0)
		o.secrets = [][]byte{[]byte("secret")}
		o.meters, o.traces = nometrics.NewMeterProvider(), notraces.NewTracerProvider()
		var opErr *net.OpError
		err := run(t.Context(), o)
		require.ErrorAs(t, err, &opErr)
		assert.ErrorContains(t, err, flag)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		env     map[string]string
		want    int
		wantErr string
	}{
		"none":          {nil, 0, "HAPTIK_SECRET is not set"},
		"previous only": {map[string]string{"HAPTIK_SECRET_PREVIOUS": "p"}, 0, "HAPTIK_SECRET is not set"},
		"current":       {map[string]string{"HAPTIK_SECRET": "c"}, 1, ""},
		"both":          {map[string]string{"HAPTIK_SECRET": "c", "HAPTIK_SECRET_PREVIOUS": "p"}, 2, ""},
		"line break":    {map[string]string{"HAPTIK_SECRET": "c\n"}, 0, "line break"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			list, err := secrets(func(name string) string { return test.env[name] })
			if test.wantErr != "" {
				require.ErrorContains(t, err, test.wantErr)
			} else {
				require.NoError(t, err)
			}
			assert.Len(t, list, test.want)
		})
	}
}

// TestSentOverOTLP plays the collector.
func TestSentOverOTLP(t *testing.T) {
	var mu sync.Mutex
	got := make(map[string]int)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path]++
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	env := map[string]string{"HAPTIK_SECRET": "secret", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &watched{t: t}
	err := start(ctx, options{
		listen: "127.0.0.1:0", metrics: "127.0.0.1:0",
		log: slog.New(slog.DiscardHandler), contract: middleware.Haptik(), app: app(0),
		ready: func(public, _ net.Addr) {
			go func() {
				defer cancel()
				w.public = "http://" + public.String()
				assert.Equal(t, 200, w.deliver("POST", "{}", []byte("secret"), nil))
			}()
		},
	}, func(name string) string { return env[name] })
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, map[string]int{"/v1/metrics": 1, "/v1/traces": 1}, maps.Clone(got))
}
