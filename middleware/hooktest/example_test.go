package hooktest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

var secret = []byte("the secret_key shared with Haptik")

// haptik plays Haptik.
func haptik() *hooktest.Sender {
	return &hooktest.Sender{
		Contract: middleware.Haptik(),
		Header:   hmac.Haptik().Header,
		Sign:     func(body []byte) (string, error) { return hmac.Sign(hmac.Haptik(), secret, body) },
	}
}

// A receiver that fails twice gets the delivery three times.
func ExampleSender_Deliver() {
	calls := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()

	sender := haptik()
	sender.Wait = func(context.Context, time.Duration) error { return nil } // do not really wait
	report, err := sender.Deliver(context.Background(), srv.URL, []byte(`{"event_name":"webhook_agent_chat_complete"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range report.Attempts {
		fmt.Println(a.Waited, a.Status, a.Err)
	}
	fmt.Println("gave up:", report.GaveUp)
	// Output:
	// 0s 503 the receiver answered 503 Service Unavailable, not a 2xx
	// 5s 503 the receiver answered 503 Service Unavailable, not a 2xx
	// 25s 200 <nil>
	// gave up: false
}

// newReceiver returns the receiver of an application, and a count of the
// events that it has worked on.
func newReceiver() (http.Handler, *atomic.Int64, error) {
	v, err := hmac.New(hmac.Haptik(), secret)
	if err != nil {
		return nil, nil, err
	}
	var events atomic.Int64
	guard := &middleware.Guard{
		Verifier: v,
		Contract: middleware.Haptik(),
		Observe:  func(*http.Request, middleware.Result) {}, // nil would log every refusal
	}
	return guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		events.Add(1)
		io.WriteString(w, "thank you")
	})), &events, nil
}

// TestReceiver in an application's own test.
func TestHooks(t *testing.T) {
	t.Parallel()
	receiver, events, err := newReceiver()
	if err != nil {
		t.Fatal(err)
	}
	sender := haptik()
	sender.Effects = func() int { return int(events.Load()) }
	sender.Stranger = func(body []byte) (string, error) {
		return hmac.Sign(hmac.Haptik(), []byte("not the secret_key"), body)
	}
	hooktest.TestReceiver(t, receiver, sender,
		[]byte(`{"event_name":"webhook_agent_chat_complete"}`),
		[]byte(`{"event_name":"webhook_conversation_complete_partial"}`))
}
