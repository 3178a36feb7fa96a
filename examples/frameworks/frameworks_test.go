package frameworks

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

// everyByte has NULs in it and is not UTF-8.
var everyByte = func() []byte {
	b := make([]byte, 512)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

func gzipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(body)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReceivers(t *testing.T) {
	for _, rc := range slices.Concat(receivers, wrapped) {
		t.Run(rc.name, func(t *testing.T) {
			t.Parallel()
			var effects atomic.Int64
			app := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { effects.Add(1) })
			h := rc.make(t, newGuard(t, contract()), app)
			hooktest.TestReceiver(t, at(path, h), sender(contract(), func() int { return int(effects.Load()) }),
				[]byte(`{"event_name":"webhook_agent_chat_complete","data":{"text":"Grüße, 世界"}}`),
				everyByte,
				[]byte("{\"text\":\"Latin-1: \xfc\"}\r\n"),
			)
		})
	}
}

// The handler gets the bytes on the wire, and so does the sender.
func TestBytes(t *testing.T) {
	for _, rc := range slices.Concat(receivers, wrapped) {
		t.Run(rc.name, func(t *testing.T) {
			t.Parallel()
			type seen struct{ body, delivered, header string }
			runs := make(chan seen, 1)
			app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				d, ok := middleware.FromContext(r.Context())
				if err != nil || !ok {
					t.Errorf("error %v, delivery %v", err, ok)
					d = &middleware.Delivery{}
				}
				runs <- seen{string(body), string(d.Body), strings.Join(d.Header.Values("X-Twice"), "|")}
				http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
				http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
				w.Header().Set("Content-Type", "application/octet-stream")
				w.WriteHeader(http.StatusAccepted)
				_, _ = w.Write(body)
			})
			c := contract()
			c.MaxResponse = 0
			c.Deadline = 10 * time.Second
			url := serve(t, rc.make(t, newGuard(t, c), app)) + path + "?a=b%2fc"

			const text = `{ "text" : "\u00fc" }` + "\r\n"
			encoded := http.Header{"Content-Encoding": {"gzip"}}
			for _, test := range []struct {
				name string
				d    delivery
			}{
				{"text", delivery{body: []byte(text)}},
				{"chunked", delivery{body: []byte(text), chunked: true}},
				{"empty", delivery{body: []byte{}}},
				{"every byte", delivery{body: everyByte}},
				{"every byte, as text", delivery{body: everyByte, header: http.Header{"Content-Type": {"text/plain; charset=iso-8859-1"}}}},
				{"a form", delivery{body: []byte("a=1&b=%00+2&a=3"), header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}},
				{"one megabyte", delivery{body: bytes.Repeat(everyByte, 2048)}},
				{"gzip", delivery{body: gzipped(t, []byte(text)), header: encoded}},
				{"no gzip that says it is", delivery{body: []byte(text), header: encoded}},
			} {
				a, err := post(t, url, test.d)
				if err != nil || a.status != http.StatusAccepted {
					t.Errorf("%s: answered %d, error %v", test.name, a.status, err)
					continue
				}
				got, want := <-runs, string(test.d.body)
				if got.body != want || got.delivered != want {
					t.Errorf("%s: the handler got other bytes than were sent", test.name)
				}
				if string(a.body) != want {
					t.Errorf("%s: the sender got other bytes than the handler wrote", test.name)
				}
				if cookies := a.header.Values("Set-Cookie"); len(cookies) != 2 {
					t.Errorf("%s: cookies %q; expected two", test.name, cookies)
				}
			}

			if _, err := post(t, url, delivery{body: []byte(text), header: http.Header{"X-Twice": {"1", "2"}}}); err != nil {
				t.Fatal(err)
			}
			want := "1|2"
			if strings.HasPrefix(rc.name, "lambda") {
				want = "1,2" // Lambda joins them
			}
			if got := (<-runs).header; got != want {
				t.Errorf("a header that came twice is %q in the delivery; expected %q", got, want)
			}
		})
	}
}

// A handler that is not done at the deadline is answered for in time, and goes
// on: its context lives, and its request and delivery stay what they were while
// the next requests are served. (On Lambda the process is frozen then.)
func TestLateAnswer(t *testing.T) {
	for _, rc := range slices.Concat(receivers, wrapped) {
		t.Run(rc.name, func(t *testing.T) {
			t.Parallel()
			first, second := []byte(`{"n":1}`), []byte(`{"n":2}`)
			release := make(chan struct{})
			done := make(chan string, 1)
			app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if !bytes.Equal(body, first) {
					return
				}
				<-release
				d, _ := middleware.FromContext(r.Context())
				switch want := signature(t, first); {
				case r.Context().Err() != nil:
					done <- r.Context().Err().Error()
				case r.Header.Get(scheme.Header) != want || d.Header.Get(scheme.Header) != want:
					done <- "the header is no longer this request's"
				case r.URL.Path != path || r.Method != http.MethodPost || r.URL.Query().Get("n") != "1":
					done <- "the request is no longer this one: " + r.Method + " " + r.URL.String()
				case !bytes.Equal(d.Body, first):
					done <- "the body is no longer this request's"
				default:
					ctx, cancel := context.WithTimeout(r.Context(), time.Minute) // looks for values in it
					cancel()
					_ = ctx.Value(struct{}{})
					_, _ = io.WriteString(w, "too late")
					done <- ""
				}
			})
			c := contract()
			guard := newGuard(t, c)
			url := serve(t, rc.make(t, guard, app)) + path

			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			a, err := postWith(t, client, url+"?n=1", delivery{body: first})
			if err != nil || a.status != http.StatusOK || len(a.body) > 0 {
				t.Fatalf("answered %d %q, error %v; expected 200 without a body", a.status, a.body, err)
			}
			if a.elapsed < c.Deadline/2 || a.elapsed >= c.Deadline {
				t.Errorf("answered after %v; expected just before %v", a.elapsed, c.Deadline)
			}
			t.Logf("answered after %v", a.elapsed.Round(time.Millisecond))
			for range 5 {
				if a, err := postWith(t, client, url+"?n=2", delivery{body: second}); err != nil || a.status != http.StatusOK {
					t.Errorf("the next delivery is answered %d, error %v", a.status, err)
				}
			}
			close(release)
			if fault := <-done; fault != "" {
				t.Error(fault)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := guard.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
