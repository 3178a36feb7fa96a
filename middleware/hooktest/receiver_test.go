package hooktest

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/internal/testkeys"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/rsasig"
)

func testLogger(*testing.T) *log.Logger { return log.New(io.Discard, "", 0) }

func ignore(*http.Request, middleware.Result) {}

// counter is a handler that counts its runs.
type counter struct{ n atomic.Int64 }

func (c *counter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.n.Add(1)
	io.WriteString(w, "{}")
}

func (c *counter) count() int { return int(c.n.Load()) }

func TestHandmade(t *testing.T) {
	t.Parallel()
	h := good()
	TestReceiver(t, h, h.sender(), testBodies...)
}

// TestGuard: the Guard passes for each of the four senders.
func TestGuard(t *testing.T) {
	t.Parallel()
	rsaKey, dsaKey, otherDSA := testkeys.RSA(t, 2048), testkeys.DSA(t, 2048, 256), testkeys.DSA(t, 2048, 256)
	otherRSA := testkeys.RSA(t, 2048)
	other := []byte("another secret")
	haptikV, err := hmac.New(hmac.Haptik(), []byte("the current one"), secret)
	require.NoError(t, err)
	compliancelyV, err := hmac.New(hmac.Compliancely(), secret)
	require.NoError(t, err)
	salesIQV, err := rsasig.New(rsasig.SalesIQ(), &rsaKey.PublicKey)
	require.NoError(t, err)
	convoKraftV, err := dsasig.New(dsasig.ConvoKraft(), &dsaKey.PublicKey)
	require.NoError(t, err)
	tests := []struct {
		contract       middleware.Contract
		verifier       middleware.Verifier
		header         string
		sign, stranger func([]byte) (string, error)
	}{
		{middleware.Haptik(), haptikV, hmac.Haptik().Header,
			signHaptik,
			func(b []byte) (string, error) { return hmac.Sign(hmac.Haptik(), other, b) }},
		{middleware.Compliancely(), compliancelyV, hmac.Compliancely().Header,
			func(b []byte) (string, error) { return hmac.Sign(hmac.Compliancely(), secret, b) },
			func(b []byte) (string, error) { return hmac.Sign(hmac.Compliancely(), other, b) }},
		{middleware.SalesIQ(), salesIQV, rsasig.SalesIQ().Header,
			func(b []byte) (string, error) { return rsasig.Sign(rsasig.SalesIQ(), rsaKey, b) },
			func(b []byte) (string, error) { return rsasig.Sign(rsasig.SalesIQ(), otherRSA, b) }},
		{middleware.ConvoKraft(), convoKraftV, dsasig.ConvoKraft().Header,
			convoKraft(dsaKey).Sign, convoKraft(otherDSA).Sign},
	}
	sideBySide(len(tests), len(tests), func(i int) {
		tt := tests[i]
		t.Run(tt.contract.Sender, func(t *testing.T) {
			c := &counter{}
			guard := &middleware.Guard{Verifier: tt.verifier, Contract: tt.contract, Observe: ignore}
			s := &Sender{Contract: tt.contract, Header: tt.header, Sign: tt.sign, Stranger: tt.stranger, Effects: c.count}
			TestReceiver(t, guard.Handler(c), s,
				[]byte(`{"event":"a","text":"näher"}`), []byte("{\r\n\t\"b\": \"\\u0000\" } \n"), []byte("\x00\xff not JSON"), []byte{})
		})
	})
}

// TestGuardsWays: the Guard passes however the work is arranged behind it.
func TestGuardsWays(t *testing.T) {
	t.Parallel()
	contract := testContract
	contract.Deadline = time.Second
	v, err := hmac.New(testScheme, secret)
	require.NoError(t, err)
	newGuard := func() *middleware.Guard {
		return &middleware.Guard{Verifier: v, Contract: contract, Observe: ignore}
	}
	tests := []struct {
		name  string
		once  bool
		serve func(*testing.T, *counter) http.Handler
	}{
		{"a Store", true, func(_ *testing.T, c *counter) http.Handler {
			guard := newGuard()
			guard.Store = middleware.NewMemoryStore(time.Hour, 1000)
			return guard.Handler(c)
		}},
		{"a Pool", false, func(t *testing.T, c *counter) http.Handler {
			pool := middleware.NewPool(func(context.Context, *middleware.Delivery) error {
				c.n.Add(1)
				return nil
			}, middleware.PoolOptions{Workers: 2, Backlog: 100})
			t.Cleanup(func() { assert.NoError(t, pool.Shutdown(context.Background())) })
			return newGuard().Handler(middleware.Ack(pool.Put))
		}},
		{"a Store, a Pool that is soon full", true, func(t *testing.T, c *counter) http.Handler {
			pool := middleware.NewPool(func(context.Context, *middleware.Delivery) error {
				time.Sleep(5 * time.Millisecond)
				c.n.Add(1)
				return nil
			}, middleware.PoolOptions{Workers: 1, Backlog: 1})
			t.Cleanup(func() { assert.NoError(t, pool.Shutdown(context.Background())) })
			guard := newGuard()
			guard.Store = middleware.NewMemoryStore(time.Hour, 1000)
			return guard.Handler(middleware.Ack(pool.Put))
		}},
		{"a handler that outlives the deadline", false, func(t *testing.T, c *counter) http.Handler {
			guard := newGuard()
			t.Cleanup(func() { assert.NoError(t, guard.Shutdown(context.Background())) })
			return guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(contract.Deadline + 200*time.Millisecond)
				c.ServeHTTP(w, r)
			}))
		}},
		{"a Store, a handler that outlives the deadline", true, func(t *testing.T, c *counter) http.Handler {
			guard := newGuard()
			guard.Store = middleware.NewMemoryStore(time.Hour, 1000)
			t.Cleanup(func() { assert.NoError(t, guard.Shutdown(context.Background())) })
			return guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(contract.Deadline + 200*time.Millisecond)
				c.ServeHTTP(w, r)
			}))
		}},
	}
	sideBySide(len(tests), len(tests), func(i int) {
		tt := tests[i]
		t.Run(tt.name, func(t *testing.T) {
			c := &counter{}
			s := good().sender()
			s.Contract, s.Effects, s.Once = contract, c.count, tt.once
			TestReceiver(t, tt.serve(t, c), s, testBodies...)
		})
	})
}

// TestServerSettings: a receiver may rely on those of its server.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	h := good()
	h.deadline = func(http.ResponseWriter) {}
	s := h.sender()
	s.Server = func(srv *http.Server) { srv.ReadTimeout = testContract.Deadline }
	TestReceiver(t, h, s)
}

// TestNoise: what differs from answer to answer anyway, as an id of the
// request does, is no difference between refusals.
func TestNoise(t *testing.T) {
	h := good()
	var id atomic.Int64
	h.refuse = func(w http.ResponseWriter, _ error) bool {
		w.Header().Set("X-Request-Id", strings.Repeat("i", int(id.Add(1))))
		http.Error(w, "refused", http.StatusForbidden)
		return false
	}
	assert.Empty(t, found(t, h, h.sender(), false))
}

// TestEffectsAfterTheAnswer: a receiver may work once it has answered.
func TestEffectsAfterTheAnswer(t *testing.T) {
	h := good()
	h.work = func(http.ResponseWriter, *http.Request, []byte) {
		time.AfterFunc(50*time.Millisecond, func() { h.effects.Add(1) })
	}
	assert.Empty(t, found(t, h, h.sender(), false))
}

// TestQuick: all but the trickling body takes less than two seconds, and
// nothing is left running.
func TestQuick(t *testing.T) {
	before := runtime.NumGoroutine()
	h := good()
	start := time.Now()
	assert.Empty(t, found(t, h, h.sender(), false))
	elapsed := time.Since(start)
	t.Log(elapsed)
	assert.Less(t, elapsed, 2*time.Second)
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
}

// TestHangingReceiver: a receiver that never answers does not cost a deadline
// for each request.
func TestHangingReceiver(t *testing.T) {
	t.Parallel()
	s := good().sender()
	s.Contract.Deadline = 100 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	start := time.Now()
	names := found(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }), s, false)
	assert.Contains(t, names, "genuine/0")
	assert.Contains(t, names, "oversized body")
	assert.Less(t, time.Since(start), 60*time.Second)
}

func TestSignFails(t *testing.T) {
	h := good()
	s := h.sender()
	s.Sign = func([]byte) (string, error) { return "", io.ErrUnexpectedEOF }
	for _, o := range obligations(1) {
		target, err := serve(h, s, testBodies, testLogger(t))
		require.NoError(t, err)
		if err := o.check(target); o.name != "probes" {
			assert.ErrorIs(t, err, io.ErrUnexpectedEOF, o.name)
		}
		target.close()
	}
	assert.Zero(t, h.effects.Load())
}

func TestFlipsKeepJSON(t *testing.T) {
	for _, body := range testBodies {
		for _, b := range flips(body) {
			assert.NotEqual(t, body, b)
			assert.True(t, json.Valid(b), "%s", b)
		}
	}
	assert.Empty(t, flips(nil))
	assert.Len(t, flips([]byte{0}), 3)
}

// TestForgeriesDiffer: no forgery is a genuine delivery in disguise.
func TestForgeriesDiffer(t *testing.T) {
	s := good().sender()
	for _, body := range append(testBodies, nil, []byte("x"), []byte(" {}\n")) {
		signature, err := value(s.Sign, body)
		require.NoError(t, err)
		for _, kind := range forgeries {
			orders, err := kind.make(s, body, signature)
			require.NoError(t, err)
			assert.NotEmpty(t, orders, kind.name)
			for _, o := range orders {
				same := len(o.values) == 1 && o.values[0] == signature && string(o.body) == string(body)
				assert.False(t, same, "%s: %s", kind.name, o.what)
			}
		}
	}
}

func TestAlter(t *testing.T) {
	const value = "aB09zZ+/-_fFg=."
	for i := range len(value) {
		b := alter(value, i)
		assert.Len(t, b, len(value))
		assert.NotEqual(t, value[i], b[i])
		assert.Equal(t, value[:i]+value[i+1:], b[:i]+b[i+1:])
	}
}

func TestCommasInSignatures(t *testing.T) {
	orders, err := commaJoined(nil, nil, "t=1,v1=00")
	assert.NoError(t, err)
	assert.Empty(t, orders)
}
