package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

// outcomes returns all that there are.
func outcomes(t *testing.T) []middleware.Outcome {
	var all []middleware.Outcome
	for o := middleware.Outcome(0); o.String() != "unknown"; o++ {
		all = append(all, o)
	}
	require.Greater(t, len(all), 10)
	return all
}

func TestEveryOutcomeHasItsStatus(t *testing.T) {
	for _, o := range outcomes(t) {
		if o == middleware.LateDone {
			assert.NotContains(t, usualStatus, o, "nobody is answered so")
			continue
		}
		assert.NotEmpty(t, usualStatus[o], o.String())
	}
}

func TestLabelsAreFew(t *testing.T) {
	keys, classes := make(map[string]bool), make(map[string]bool)
	for n := -1000; n < 2000; n++ {
		keys[keyLabel(n)] = true
		classes[statusLabel(n)] = true
	}
	for _, n := range []int{math.MinInt, math.MaxInt} {
		keys[keyLabel(n)] = true
		classes[statusLabel(n)] = true
	}
	set := func(values ...string) map[string]bool {
		m := make(map[string]bool)
		for _, v := range values {
			m[v] = true
		}
		return m
	}
	assert.Equal(t, set("0", "1", "2", "3", "4", "5", "6", "7", "none", "other"), keys)
	assert.Equal(t, set("1xx", "2xx", "3xx", "4xx", "5xx", "none"), classes)
	assert.Equal(t, "none", keyLabel(-1))
	assert.Equal(t, "7", keyLabel(7))
	assert.Equal(t, "other", keyLabel(8))
	assert.Equal(t, "none", statusLabel(0))
	assert.Equal(t, "4xx", statusLabel(401))
}

func TestReasonLabel(t *testing.T) {
	for want, err := range map[string]error{
		"missing": hmac.ErrMissing, "malformed": hmac.ErrMalformed, "mismatch": hmac.ErrMismatch, "other": errors.New("mine"),
	} {
		assert.Equal(t, want, reasonLabel(fmt.Errorf("%w: %w", middleware.ErrRefused, err)))
	}
	assert.Equal(t, "other", reasonLabel(nil))
}

// request returns one as marked passes it on.
func request(t *testing.T) *http.Request {
	t.Helper()
	var got *http.Request
	marked(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody))
	return got
}

func TestAfterwards(t *testing.T) {
	const (
		accepted = middleware.Accepted
		late     = middleware.Late
		lateDone = middleware.LateDone
		panicked = middleware.Panicked
	)
	tests := map[string]struct {
		told []middleware.Outcome
		want []bool
	}{
		"in time":                       {[]middleware.Outcome{accepted}, []bool{false}},
		"panic in time":                 {[]middleware.Outcome{panicked}, []bool{false}},
		"late":                          {[]middleware.Outcome{late, lateDone}, []bool{false, true}},
		"late, told the other way":      {[]middleware.Outcome{lateDone, late}, []bool{true, false}},
		"late, then a panic":            {[]middleware.Outcome{late, panicked}, []bool{false, true}},
		"the late answer panics":        {[]middleware.Outcome{panicked, lateDone}, []bool{false, true}},
		"both panic":                    {[]middleware.Outcome{panicked, panicked}, []bool{false, true}},
		"too many late":                 {[]middleware.Outcome{middleware.Overloaded, lateDone}, []bool{false, true}},
		"late, then known as a retry":   {[]middleware.Outcome{late, middleware.Repeated}, []bool{false, true}},
		"late, then a copy is running":  {[]middleware.Outcome{late, middleware.Pending}, []bool{false, true}},
		"late answer with a bad status": {[]middleware.Outcome{middleware.Forbidden, lateDone}, []bool{false, true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := request(t)
			var got []bool
			tell := observe(func(_ *http.Request, _ middleware.Result, afterwards bool) { got = append(got, afterwards) })
			for _, o := range test.told {
				// The Guard tells of a late answer with a copy of the request.
				tell(r.WithContext(r.Context()), middleware.Result{Outcome: o})
			}
			assert.Equal(t, test.want, got)
		})
	}
	t.Run("not marked", func(t *testing.T) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		assert.False(t, isAfterwards(r, middleware.Result{Outcome: late}))
		assert.True(t, isAfterwards(r, middleware.Result{Outcome: lateDone}))
		assert.False(t, isAfterwards(r, middleware.Result{Outcome: accepted}))
	})
}

// TestSeriesAreBounded tells of more than any sender and receiver can do.
func TestSeriesAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	o, err := newPrometheus(reg, "haptik")
	require.NoError(t, err)
	for _, outcome := range outcomes(t) {
		for status := range 700 {
			res := middleware.Result{
				Outcome: outcome, Sender: "haptik", Status: status, Key: status - 1, Size: status << 16,
				Elapsed: time.Duration(status) * time.Second, Err: fmt.Errorf("error %d", status),
			}
			o(nil, res, outcome == middleware.LateDone)
		}
	}
	for name, most := range map[string]int{
		"hooktrust_requests_total":            len(outcomes(t)) * 6,
		"hooktrust_refusals_total":            4,
		"hooktrust_verified_deliveries_total": 10,
		"hooktrust_request_duration_seconds":  len(outcomes(t)),
		"hooktrust_delivery_size_bytes":       1,
		"hooktrust_late_handlers_total":       2 * 6,
	} {
		n, err := testutil.GatherAndCount(reg, name)
		require.NoError(t, err)
		assert.LessOrEqual(t, n, most, name)
		assert.Positive(t, n, name)
	}
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Empty(t, problems, "Prometheus's conventions for names")
}

func TestRegisteredTwice(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, err := newPrometheus(reg, "haptik")
	require.NoError(t, err)
	_, err = newPrometheus(reg, "haptik")
	var twice prometheus.AlreadyRegisteredError
	require.ErrorAs(t, err, &twice)
}

func TestObserversSeeTheRequestsContext(t *testing.T) {
	type key struct{}
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), key{}, "here"), http.MethodPost, "/", http.NoBody)
	observe(func(r *http.Request, _ middleware.Result, _ bool) {
		assert.Equal(t, "here", r.Context().Value(key{}))
	})(r, middleware.Result{})
}
