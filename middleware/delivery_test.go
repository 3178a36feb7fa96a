package middleware_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

func TestDeliveryID(t *testing.T) {
	first := &middleware.Delivery{Sender: "haptik", Body: []byte("{}"), Header: http.Header{"A": {"b"}}, Key: 0, ReceivedAt: time.Unix(1, 0)}
	retry := &middleware.Delivery{Sender: "haptik", Body: []byte("{}"), Header: http.Header{sigHeader: {"other"}}, Key: 1, ReceivedAt: time.Unix(2, 0)}
	assert.Regexp(t, "^[0-9a-f]{64}$", first.ID())
	assert.Equal(t, first.ID(), retry.ID())

	different := []*middleware.Delivery{
		first,
		{},
		{Sender: "haptik"},
		{Body: []byte("haptik{}")},
		{Sender: "haptik{", Body: []byte("}")},
		{Sender: "haptik", Body: []byte("{} ")},
		{Sender: "Haptik", Body: []byte("{}")},
		{Sender: "salesiq", Body: []byte("{}")},
		{Sender: "1:haptik", Body: []byte("{}")},
	}
	ids := make(map[string]bool)
	for _, d := range different {
		ids[d.ID()] = true
	}
	assert.Len(t, ids, len(different))
}

func TestDeliveryJSON(t *testing.T) {
	d := middleware.Delivery{
		Sender: "salesiq", Body: []byte{0, 0xff, '"', '\n'}, Header: http.Header{"X-A": {"1", "2"}}, Key: 1,
		ReceivedAt: time.Date(2026, 11, 1, 12, 0, 0, 5, time.UTC),
	}
	text, err := json.Marshal(d)
	require.NoError(t, err)
	var again middleware.Delivery
	require.NoError(t, json.Unmarshal(text, &again))
	assert.Equal(t, d, again)
	assert.Equal(t, d.ID(), again.ID())
}

// TestDeliveryShowsNoContent formats a Delivery in every way that a log may.
func TestDeliveryShowsNoContent(t *testing.T) {
	d := middleware.Delivery{Sender: "haptik", Body: []byte("the visitor's words"), Header: http.Header{sigHeader: {"sha1=0123456789"}}}
	type outer struct {
		D *middleware.Delivery
		V middleware.Delivery
	}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+"\n", d)
		fmt.Fprintf(&out, verb+"\n", &d)
		fmt.Fprintf(&out, verb+"\n", []any{d, &d})
		fmt.Fprintf(&out, verb+"\n", outer{&d, d})
	}
	fmt.Fprintln(&out, d, &d)
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "d", d, "p", &d)
	}
	text := out.String()
	for _, piece := range []string{"visitor", "0123456789", "746865", "dGhl", "116 104 101", "X-Hub"} {
		assert.NotContains(t, text, piece)
	}
	assert.Contains(t, text, "middleware.Delivery(haptik, 19 bytes, key 0, 0001-01-01T00:00:00Z)")
	assert.Contains(t, text, "d.size=19")
}

func TestContracts(t *testing.T) {
	for _, contract := range []func() middleware.Contract{middleware.Haptik, middleware.Compliancely, middleware.SalesIQ, middleware.ConvoKraft} {
		first := contract()
		assert.NotEmpty(t, first.Sender)
		// A preset that somebody changes does not change for others.
		for i := range first.Retries {
			first.Retries[i] = 0
		}
		for i := range first.Forbidden {
			first.Forbidden[i] = 0
		}
		for i := range first.Probe {
			first.Probe[i] = ""
		}
		second := contract()
		assert.NotContains(t, second.Retries, time.Duration(0))
		assert.NotContains(t, second.Forbidden, 0)
		assert.NotContains(t, second.Probe, "")
	}
	seconds := func(ns ...int) (ds []time.Duration) {
		for _, n := range ns {
			ds = append(ds, time.Duration(n)*time.Second)
		}
		return ds
	}
	assert.Equal(t, middleware.Contract{Sender: "haptik", Deadline: 5 * time.Second, Retries: seconds(5, 25, 125, 625, 1410, 1410)}, middleware.Haptik())
	assert.Equal(t, middleware.Contract{Sender: "compliancely", Deadline: 10 * time.Second, Retries: seconds(180, 360)}, middleware.Compliancely())
	assert.Equal(t, middleware.Contract{Sender: "salesiq", Deadline: 10 * time.Second, Probe: []string{"HEAD"}, Forbidden: []int{410}}, middleware.SalesIQ())
	assert.Equal(t, middleware.Contract{Sender: "convokraft", Deadline: 5 * time.Second, MaxResponse: 100_000}, middleware.ConvoKraft())
}
