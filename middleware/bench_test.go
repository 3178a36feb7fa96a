package middleware_test

import (
	"bytes"
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

// plainWay is what receivers do without a library.
func plainWay(key []byte, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		mac := stdhmac.New(sha256.New, key)
		mac.Write(body)
		want := hex.EncodeToString(mac.Sum(nil))
		if !stdhmac.Equal([]byte(r.Header.Get("Compliancely-Signature")), []byte(want)) {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// nothing is a handler and a ResponseWriter that cost nothing.
type nothing struct{ header http.Header }

func (nothing) ServeHTTP(http.ResponseWriter, *http.Request) {}
func (n nothing) Header() http.Header                        { return n.header }
func (nothing) Write(p []byte) (int, error)                  { return len(p), nil }
func (nothing) WriteHeader(int)                              {}

type rewindable struct{ *bytes.Reader }

func (rewindable) Close() error { return nil }

// BenchmarkGuard compares, on one delivery of 1 KiB in this process, a Guard
// without a deadline, what people write by hand, and the bare handler.
func BenchmarkGuard(b *testing.B) {
	const key = "a secret for benchmarks"
	body := make([]byte, 1<<10)
	v, err := hmac.New(hmac.Compliancely(), []byte(key))
	require.NoError(b, err)
	value, err := hmac.Sign(hmac.Compliancely(), []byte(key), body)
	require.NoError(b, err)
	guard := &middleware.Guard{Verifier: v, Observe: func(*http.Request, middleware.Result) {}}
	var next nothing
	for _, bm := range []struct {
		name    string
		handler http.Handler
	}{
		{"bare", next},
		{"by-hand", plainWay([]byte(key), next)},
		{"hooktrust", guard.Handler(next)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			reader := bytes.NewReader(body)
			r := httptest.NewRequest("POST", "/", rewindable{reader})
			r.ContentLength = int64(len(body))
			r.Header.Set("Compliancely-Signature", strings.TrimPrefix(value, "sha256="))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("User-Agent", "sender")
			sent := r.Body
			w := nothing{make(http.Header)}
			for b.Loop() {
				reader.Seek(0, io.SeekStart)
				r.Body = sent
				bm.handler.ServeHTTP(w, r)
			}
		})
	}
}

// BenchmarkDeadline compares what a deadline adds to a Guard with what
// http.TimeoutHandler adds to a handler. The Guard's is on the writer of a real
// HTTP/1.1 server: the loop runs inside one request. TimeoutHandler always
// writes a status, of which such a writer takes only one without complaint, so
// it has a writer that costs nothing.
func BenchmarkDeadline(b *testing.B) {
	v, err := hmac.New(hmac.Compliancely(), []byte("a secret for benchmarks"))
	require.NoError(b, err)
	body := make([]byte, 1<<10)
	value, err := hmac.Sign(hmac.Compliancely(), []byte("a secret for benchmarks"), body)
	require.NoError(b, err)
	silent := func(*http.Request, middleware.Result) {}
	without := &middleware.Guard{Verifier: v, Observe: silent}
	with := &middleware.Guard{Verifier: v, Observe: silent, Contract: middleware.Contract{Deadline: time.Hour}}
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})
	timeout, header := http.TimeoutHandler(next, time.Hour, ""), make(http.Header)
	for _, bm := range []struct {
		name    string
		handler http.Handler
	}{
		{"handler", next},
		{"handler+TimeoutHandler", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			timeout.ServeHTTP(nothing{header}, r)
		})},
		{"guard", without.Handler(next)},
		{"guard+deadline", with.Handler(next)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reader := bytes.NewReader(body)
				r = r.Clone(r.Context())
				r.Method = http.MethodPost
				r.Header.Set("Compliancely-Signature", value)
				sent := rewindable{reader}
				for b.Loop() {
					reader.Seek(0, io.SeekStart)
					r.Body = sent
					bm.handler.ServeHTTP(w, r)
				}
			}))
			srv.Config.ErrorLog = discard
			srv.Start()
			defer srv.Close()
			resp, err := srv.Client().Get(srv.URL)
			require.NoError(b, err)
			require.NoError(b, resp.Body.Close())
		})
	}
}

// BenchmarkLoopback compares a server with a Guard with one that only
// discards the body, over real connections, and what a deadline adds to either.
func BenchmarkLoopback(b *testing.B) {
	v, err := hmac.New(hmac.Compliancely(), []byte("a secret for benchmarks"))
	require.NoError(b, err)
	body := string(make([]byte, 1<<10))
	value, err := hmac.Sign(hmac.Compliancely(), []byte("a secret for benchmarks"), []byte(body))
	require.NoError(b, err)
	discardBody := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	silent := func(*http.Request, middleware.Result) {}
	for _, bm := range []struct {
		name    string
		handler http.Handler
	}{
		{"bare", discardBody},
		{"bare+TimeoutHandler", http.TimeoutHandler(discardBody, 10*time.Second, "")},
		{"hooktrust", (&middleware.Guard{Verifier: v, Observe: silent}).Handler(nothing{})},
		{"hooktrust+deadline", (&middleware.Guard{Verifier: v, Observe: silent, Contract: middleware.Compliancely()}).Handler(nothing{})},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			srv := httptest.NewServer(bm.handler)
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = 100
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r, err := http.NewRequest(http.MethodPost, srv.URL, strings.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					r.Header.Set("Compliancely-Signature", value)
					resp, err := client.Do(r)
					if err != nil || resp.StatusCode != 200 {
						b.Error(err, resp)
						return
					}
					resp.Body.Close()
				}
			})
		})
	}
}
