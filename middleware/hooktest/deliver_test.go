package hooktest

import (
	"bytes"
	"context"
	"crypto/dsa" //lint:ignore SA1019 ConvoKraft signs with it
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/middleware"
)

var secret = []byte("a secret for tests")

func signHaptik(body []byte) (string, error) { return hmac.Sign(hmac.Haptik(), secret, body) }

func haptik(client *http.Client) *Sender {
	return &Sender{Contract: middleware.Haptik(), Header: "X-Hub-Signature", Sign: signHaptik, Client: client}
}

// answers returns a handler that gives one status after the other, the last
// of them for ever.
func answers(statuses ...int) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i := min(int(n.Add(1)), len(statuses)) - 1
		w.WriteHeader(statuses[i])
		fmt.Fprintf(w, "answer %d", i)
	})
}

func statuses(r *Report) []int {
	var all []int
	for _, a := range r.Attempts {
		all = append(all, a.Status)
	}
	return all
}

func TestDeliverTheRequest(t *testing.T) {
	body := []byte("{\"a\":1}\r\n\x00\xff ")
	for _, client := range []*http.Client{nil, {Timeout: time.Nanosecond}} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, "POST", r.Method)
			assert.Equal(t, "/hooks", r.URL.Path)
			assert.Equal(t, "a=b", r.URL.RawQuery)
			assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
			assert.EqualValues(t, len(body), r.ContentLength)
			got, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			assert.Equal(t, body, got)
			want, err := signHaptik(body)
			assert.NoError(t, err)
			assert.Equal(t, []string{want}, r.Header["X-Hub-Signature"])
			w.Header().Set("X-Test", "yes")
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, "taken")
		}))
		report, err := haptik(client).Deliver(t.Context(), srv.URL+"/hooks?a=b", body)
		srv.Close()
		require.NoError(t, err)
		require.Len(t, report.Attempts, 1)
		assert.False(t, report.GaveUp)
		assert.False(t, report.SwitchedOff)
		a := report.Attempts[0]
		assert.NoError(t, a.Err)
		assert.Equal(t, http.StatusAccepted, a.Status)
		assert.Equal(t, "yes", a.Header.Get("X-Test"))
		assert.Equal(t, "taken", string(a.Body))
		assert.Positive(t, a.Elapsed)
		assert.Zero(t, a.Waited)
		if client != nil {
			assert.Equal(t, &http.Client{Timeout: time.Nanosecond}, client, "it is the caller's")
		}
	}
}

func TestDeliverRetries(t *testing.T) {
	intervals := []time.Duration{5 * time.Second, 25 * time.Second, 125 * time.Second, 625 * time.Second, 1410 * time.Second, 1410 * time.Second}
	tests := []struct {
		name     string
		answers  []int
		contract middleware.Contract
		want     []int
		gaveUp   bool
		off      bool
	}{
		{"at once", []int{200}, middleware.Haptik(), []int{200}, false, false},
		{"204 is a success", []int{204}, middleware.Haptik(), []int{204}, false, false},
		{"at the third attempt", []int{500, 404, 201}, middleware.Haptik(), []int{500, 404, 201}, false, false},
		{"never", []int{503}, middleware.Haptik(), []int{503, 503, 503, 503, 503, 503, 503}, true, false},
		{"no retries", []int{500, 200}, middleware.SalesIQ(), []int{500}, true, false},
		{"a redirect is a failure", []int{301, 302, 303, 307, 308, 200}, middleware.Haptik(), []int{301, 302, 303, 307, 308, 200}, false, false},
		{"410 switches off", []int{410, 200}, middleware.Contract{Forbidden: []int{410}, Retries: intervals}, []int{410}, true, true},
		{"410 where it is not forbidden", []int{410, 200}, middleware.Haptik(), []int{410, 200}, false, false},
		{"a forbidden success", []int{202, 200}, middleware.Contract{Forbidden: []int{202}, Retries: intervals}, []int{202}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := servePipes(t, answers(tt.answers...))
				signed := 0
				s := haptik(client)
				s.Contract = tt.contract
				s.Sign = func(body []byte) (string, error) { signed++; return signHaptik(body) }
				start := time.Now()
				report, err := s.Deliver(t.Context(), "http://hooks/", []byte("{}"))
				require.NoError(t, err)
				assert.Equal(t, tt.want, statuses(report))
				assert.Equal(t, tt.gaveUp, report.GaveUp)
				assert.Equal(t, tt.off, report.SwitchedOff)
				assert.Equal(t, len(tt.want), signed, "each attempt is signed")
				var waited time.Duration
				for i, a := range report.Attempts {
					if i > 0 {
						assert.Equal(t, intervals[i-1], a.Waited)
					}
					waited += a.Waited
					last := i == len(report.Attempts)-1
					assert.Equal(t, !last || tt.gaveUp, a.Err != nil, "%v", a.Err)
				}
				assert.Equal(t, waited, time.Since(start), "it really waits")
			})
		})
	}
}

// TestDeliverRecordsWaits: Wait gets the contract's intervals.
func TestDeliverRecordsWaits(t *testing.T) {
	srv := httptest.NewServer(answers(500))
	defer srv.Close()
	var waits []time.Duration
	s := haptik(nil)
	s.Wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	report, err := s.Deliver(t.Context(), srv.URL, []byte("{}"))
	require.NoError(t, err)
	assert.True(t, report.GaveUp)
	assert.Equal(t, middleware.Haptik().Retries, waits)
}

func TestDeliverHoldsTheDeadline(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		late    bool
		status  int
	}{
		{"just in time", func(http.ResponseWriter, *http.Request) { time.Sleep(5*time.Second - 1) }, false, 200},
		{"too late", func(http.ResponseWriter, *http.Request) { time.Sleep(5*time.Second + 1) }, true, 0},
		{"the body is too late", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "the first half")
			http.NewResponseController(w).Flush()
			time.Sleep(6 * time.Second)
		}, true, 200},
		{"it trickles", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, "x")
				http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		}, true, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := haptik(servePipes(t, tt.handler))
				s.Contract.Retries = nil
				report, err := s.Deliver(t.Context(), "http://hooks/", []byte("{}"))
				require.NoError(t, err)
				a := report.Attempts[0]
				assert.Equal(t, tt.status, a.Status)
				assert.Equal(t, tt.late, report.GaveUp)
				assert.Equal(t, tt.late, errors.Is(a.Err, context.DeadlineExceeded), "%v", a.Err)
				if tt.late {
					assert.Equal(t, 5*time.Second, a.Elapsed)
				} else {
					assert.NoError(t, a.Err)
				}
				time.Sleep(10 * time.Second) // for the handler
			})
		})
	}
}

// TestDeliverWithoutDeadline: 0 is no limit.
func TestDeliverWithoutDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := haptik(servePipes(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(24 * time.Hour) })))
		s.Contract = middleware.Contract{}
		report, err := s.Deliver(t.Context(), "http://hooks/", nil)
		require.NoError(t, err)
		assert.False(t, report.GaveUp)
		assert.Equal(t, 24*time.Hour, report.Attempts[0].Elapsed)
	})
}

func TestDeliverLimitsTheAnswer(t *testing.T) {
	tests := []struct {
		name        string
		size, limit int64
		kept        int
		fails       bool
	}{
		{"exact", 100_000, 100_000, 100_000, false},
		{"a byte more", 100_001, 100_000, 100_001, true},
		{"no limit", 5 << 20, 0, keptBody, false},
		{"a large limit", 5 << 20, 5 << 20, keptBody, false},
		{"beyond a large limit", 5<<20 + 1, 5 << 20, keptBody, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write(make([]byte, tt.size)) // fails when the sender has seen enough
			}))
			defer srv.Close()
			s := haptik(nil)
			s.Contract = middleware.Contract{MaxResponse: tt.limit}
			report, err := s.Deliver(t.Context(), srv.URL, []byte("{}"))
			require.NoError(t, err)
			assert.Equal(t, tt.fails, report.GaveUp)
			assert.Equal(t, tt.fails, report.Attempts[0].Err != nil)
			assert.Equal(t, 200, report.Attempts[0].Status)
			assert.Len(t, report.Attempts[0].Body, tt.kept)
		})
	}
}

// TestDeliverDoesNotFollow: neither a client's own policy nor a redirect that
// keeps the method makes the sender follow.
func TestDeliverDoesNotFollow(t *testing.T) {
	followed := false
	mux := http.NewServeMux()
	mux.Handle("/", http.RedirectHandler("/elsewhere", http.StatusPermanentRedirect))
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { followed = true })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	s := haptik(&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }})
	s.Contract.Retries = nil
	report, err := s.Deliver(t.Context(), srv.URL, []byte("{}"))
	require.NoError(t, err)
	assert.True(t, report.GaveUp)
	assert.Equal(t, []int{http.StatusPermanentRedirect}, statuses(report))
	assert.False(t, followed)
	http.DefaultClient.CloseIdleConnections()
}

// TestDeliverToFaultyReceivers: what happens below HTTP is the receiver's too.
func TestDeliverToFaultyReceivers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	hangUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer hangUp.Close()
	breakOff := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	}))
	defer breakOff.Close()
	untrusted := httptest.NewUnstartedServer(answers(200))
	untrusted.Config.ErrorLog = testLogger(t)
	untrusted.StartTLS()
	defer untrusted.Close()
	for _, tt := range []struct {
		name, url, body string
		status          int
	}{
		{"nobody listens", nobody, "", 0},
		{"it hangs up", hangUp.URL, "", 0},
		{"it breaks off", breakOff.URL, "half", 200},
		{"its certificate is not trusted", untrusted.URL, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := haptik(nil)
			s.Contract.Retries = nil
			report, err := s.Deliver(t.Context(), tt.url, []byte("{}"))
			require.NoError(t, err)
			assert.True(t, report.GaveUp)
			a := report.Attempts[0]
			assert.Error(t, a.Err)
			assert.Equal(t, tt.status, a.Status)
			assert.Equal(t, tt.body, string(a.Body))
		})
	}
}

func TestDeliverOverTLS(t *testing.T) {
	srv := httptest.NewTLSServer(answers(200))
	defer srv.Close()
	report, err := haptik(srv.Client()).Deliver(t.Context(), srv.URL, []byte("{}"))
	require.NoError(t, err)
	assert.False(t, report.GaveUp)
}

func TestDeliverErrors(t *testing.T) {
	fault := errors.New("no key")
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(fault)
	good := haptik(nil)
	change := func(f func(*Sender)) *Sender { s := haptik(nil); f(s); return s }
	signs := func(v string, err error) *Sender {
		return change(func(s *Sender) { s.Sign = func([]byte) (string, error) { return v, err } })
	}
	for _, tt := range []struct {
		name string
		ctx  context.Context
		s    *Sender
		url  string
		want error // nil: any
	}{
		{"nil Sender", t.Context(), nil, "http://127.0.0.1:1/", nil},
		{"no Sign", t.Context(), change(func(s *Sender) { s.Sign = nil }), "http://127.0.0.1:1/", nil},
		{"no Header", t.Context(), change(func(s *Sender) { s.Header = "" }), "http://127.0.0.1:1/", nil},
		{"bad Header", t.Context(), change(func(s *Sender) { s.Header = "X Sig" }), "http://127.0.0.1:1/", nil},
		{"Once without Effects", t.Context(), change(func(s *Sender) { s.Once = true }), "http://127.0.0.1:1/", nil},
		{"no URL", t.Context(), good, "", nil},
		{"not a URL", t.Context(), good, "http://a b/", nil},
		{"no host", t.Context(), good, "http:///hooks", nil},
		{"another scheme", t.Context(), good, "ftp://127.0.0.1/", nil},
		{"Sign fails", t.Context(), signs("", fault), "http://127.0.0.1:1/", fault},
		{"Sign returns nothing", t.Context(), signs("", nil), "http://127.0.0.1:1/", nil},
		{"Sign returns two lines", t.Context(), signs("a\nb", nil), "http://127.0.0.1:1/", nil},
		{"ctx has ended", cancelled, good, "http://127.0.0.1:1/", fault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report, err := tt.s.Deliver(tt.ctx, tt.url, []byte("{}"))
			require.Error(t, err)
			if tt.want != nil {
				assert.ErrorIs(t, err, tt.want)
			}
			assert.Empty(t, report.Attempts)
			assert.False(t, report.GaveUp)
		})
	}
}

// TestDeliverInterrupted: the report has what was done until ctx ended.
func TestDeliverInterrupted(t *testing.T) {
	fault := errors.New("no more")
	for _, tt := range []struct {
		name     string
		after    time.Duration
		handler  http.Handler
		attempts int
	}{
		{"while it waits", 20 * time.Second, answers(500), 2},
		{"during an attempt", 2 * time.Second, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body) // only then does net/http see that the client hangs up
			<-r.Context().Done()
		}), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(tt.after, func() { cancel(fault) })
				s := haptik(servePipes(t, tt.handler))
				start := time.Now()
				report, err := s.Deliver(ctx, "http://hooks/", []byte("{}"))
				assert.ErrorIs(t, err, fault)
				assert.Equal(t, tt.after, time.Since(start))
				require.Len(t, report.Attempts, tt.attempts)
				assert.Error(t, report.Attempts[tt.attempts-1].Err)
				assert.False(t, report.GaveUp)
				assert.Contains(t, report.String(), "interrupted")
			})
		})
	}
	t.Run("Wait fails", func(t *testing.T) {
		srv := httptest.NewServer(answers(500))
		defer srv.Close()
		s := haptik(nil)
		s.Wait = func(context.Context, time.Duration) error { return fault }
		report, err := s.Deliver(t.Context(), srv.URL, []byte("{}"))
		assert.ErrorIs(t, err, fault)
		assert.Len(t, report.Attempts, 1)
	})
}

// TestDeliverSignsEachAttempt: the signatures of DSA differ, and all verify.
func TestDeliverSignsEachAttempt(t *testing.T) {
	key := testkeys.DSA(t, 2048, 256)
	v, err := dsasig.New(dsasig.ConvoKraft(), &key.PublicKey)
	require.NoError(t, err)
	seen := map[string]bool{}
	body := []byte(`{"todo":"execute"}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, v.Verify(body, r.Header))
		seen[r.Header.Get("X-CONVOKRAFT-SIGNATURE")] = true
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	s := convoKraft(key)
	s.Contract.Retries = make([]time.Duration, 2)
	report, err := s.Deliver(t.Context(), srv.URL, body)
	require.NoError(t, err)
	assert.True(t, report.GaveUp)
	assert.Len(t, seen, 3)
}

func convoKraft(key *dsa.PrivateKey) *Sender {
	scheme := dsasig.ConvoKraft()
	return &Sender{
		Contract: middleware.ConvoKraft(),
		Header:   scheme.Header,
		Sign:     func(body []byte) (string, error) { return dsasig.Sign(scheme, key, body) },
	}
}

func TestReportString(t *testing.T) {
	report := &Report{Attempts: []Attempt{
		{Status: 503, Elapsed: 2 * time.Millisecond, Err: errors.New("the receiver answered 503")},
		{Waited: 5 * time.Second, Elapsed: 1234567 * time.Nanosecond, Status: 200},
	}}
	want := "attempt 1: the receiver answered 503 (after 2ms)\nattempt 2, 5s later: 200 OK (after 1.2ms)\n"
	assert.Equal(t, want+"delivered", report.String())
	assert.Equal(t, want+"delivered", fmt.Sprint(report))
	report.GaveUp = true
	assert.Equal(t, want+"not delivered: the sender has given up", report.String())
	report.SwitchedOff = true
	assert.True(t, strings.HasSuffix(report.String(), "switched the webhook off"))
	assert.Equal(t, "not delivered: interrupted", (&Report{}).String())
}

func TestDeliverConcurrently(t *testing.T) {
	srv := httptest.NewServer(answers(200))
	defer srv.Close()
	s := haptik(nil)
	errs := make(chan error, 20)
	for i := range cap(errs) {
		go func() {
			report, err := s.Deliver(t.Context(), srv.URL, bytes.Repeat([]byte("x"), i))
			if err == nil && report.GaveUp {
				err = errors.New(report.String())
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		assert.NoError(t, <-errs)
	}
}
