package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

const (
	secret   = "the secret of these tests"
	previous = "the secret before it"
	changed  = `{"business":{"id":17,"name":"Asha's Shoes"},"status":"Inactive"}`
)

var (
	testConfig   = config{addr: "127.0.0.1:0", secrets: [][]byte{[]byte(secret), []byte(previous)}}
	base64Config = config{addr: "127.0.0.1:0", secrets: testConfig.secrets, encoding: hmac.Base64}
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(program(slowWork))
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// compliancely plays Compliancely, and does not wait between attempts. It
// signs with c's first secret.
func compliancely(c config) *hooktest.Sender {
	return &hooktest.Sender{
		Contract: middleware.Compliancely(),
		Header:   c.scheme().Header,
		Sign:     func(body []byte) (string, error) { return hmac.Sign(c.scheme(), c.secrets[0], body) },
		Wait:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// with returns c with one secret.
func (c config) with(secret string) config {
	c.secrets = [][]byte{[]byte(secret)}
	return c
}

// newTestReceiver returns a receiver and, when the test is over, drains it.
func newTestReceiver(t *testing.T, c config, work workFunc) *receiver {
	t.Helper()
	rc, err := newReceiver(c, work)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(t, rc.guard.Shutdown(ctx))
		assert.NoError(t, rc.pool.Shutdown(ctx))
	})
	return rc
}

// serve serves rc as the program does, and returns the URL.
func serve(t *testing.T, rc *receiver) string {
	t.Helper()
	srv := httptest.NewServer(rc.server().Handler)
	t.Cleanup(srv.Close)
	return srv.URL + path
}

// receive returns what comes from c, or fails the test if that takes too long.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing was worked on")
		panic("not reached")
	}
}

// logged returns what f logs. Tests that use it must not be parallel.
func logged(f func()) string {
	var b bytes.Buffer
	old := slog.Default()
	defer slog.SetDefault(old)
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	f()
	return b.String()
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]config{"hex": testConfig, "base64": base64Config} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var worked atomic.Int64
			rc := newTestReceiver(t, c, func(ctx context.Context, d *middleware.Delivery) error {
				err := work(ctx, d)
				worked.Add(1)
				return err
			})
			sender := compliancely(c)
			sender.Effects = func() int { return int(worked.Load()) }
			sender.Stranger = compliancely(c.with("another secret")).Sign
			hooktest.TestReceiver(t, rc.handler(), sender, []byte(changed), []byte(`[{"status":"Active"}]`), []byte("status=Active&id=17"))
		})
	}
}

// TestLogShowsShapeOnly: whatever a delivery is, it is worked on, and its
// values are in no log.
func TestLogShowsShapeOnly(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"object", changed, `shape="a JSON object" size=64 fields="[business status]"`},
		{"empty object", `{}`, `shape="a JSON object" size=2 fields=[]`},
		{"array", ` [{"name":"Asha"}]`, `shape="a JSON array" size=18`},
		{"string", `"Asha"`, `shape="a JSON value" size=6`},
		{"null", `null`, `shape="a JSON value" size=4`},
		{"form", `name=Asha`, `shape="not JSON" size=9`},
		{"cut off", `{"name":"Asha"`, `shape="not JSON" size=14`},
		{"nothing", ``, `shape="not JSON" size=0`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := &middleware.Delivery{Sender: "compliancely", Body: []byte(test.body)}
			text := logged(func() { require.NoError(t, work(t.Context(), d)) })
			assert.Contains(t, text, `msg="business changed" `+test.want+"\n")
			assert.Contains(t, text, `msg="worked on" id=`+d.ID()+"\n")
			assert.NotContains(t, text, "Asha")
		})
	}
}

func TestShapeNamesFiftyFieldsAtMost(t *testing.T) {
	fields := map[string]int{}
	for i := range 1000 {
		fields[fmt.Sprintf("id-%04d", i)] = i
	}
	body, err := json.Marshal(fields)
	require.NoError(t, err)
	attrs := shape(body)
	assert.Len(t, attrs[len(attrs)-1], 50)
}

func TestFailedLogsIDAndErrorOnly(t *testing.T) {
	d := &middleware.Delivery{Sender: "compliancely", Body: []byte(changed), Header: http.Header{"Compliancely-Signature": {"00ff"}}}
	text := logged(func() { failed(d, errors.New("the database is away")) })
	assert.Contains(t, text, `msg="given up" id=`+d.ID()+` err="the database is away"`)
	for _, part := range []string{"Asha", "00ff", "Compliancely-Signature"} {
		assert.NotContains(t, text, part)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name             string
		receiver, sender config
		wantStatus       int
		wantAttempts     int
	}{
		{"current secret", testConfig, testConfig, http.StatusOK, 1},
		{"previous secret", testConfig, testConfig.with(previous), http.StatusOK, 1},
		{"another secret", testConfig, testConfig.with("another secret"), http.StatusUnauthorized, 3},
		{"Base64", base64Config, base64Config, http.StatusOK, 1},
		{"hex for Base64", base64Config, testConfig, http.StatusUnauthorized, 3},
		{"Base64 for hex", testConfig, base64Config, http.StatusUnauthorized, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			url := serve(t, newTestReceiver(t, test.receiver, func(_ context.Context, d *middleware.Delivery) error {
				got <- string(d.Body)
				return nil
			}))
			report, err := compliancely(test.sender).Deliver(t.Context(), url, []byte(changed))
			require.NoError(t, err)
			require.Len(t, report.Attempts, test.wantAttempts, report)
			assert.Equal(t, test.wantStatus, report.Attempts[0].Status)
			if test.wantStatus == http.StatusOK {
				assert.Equal(t, changed, receive(t, got))
			}
			assert.Empty(t, got)
		})
	}
}

// TestBareDigest: a signature without "sha256=" before it is accepted, too.
func TestBareDigest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]config{"hex": testConfig, "base64": base64Config} {
		url := serve(t, newTestReceiver(t, c, work))
		sender := compliancely(c)
		sign := sender.Sign
		sender.Sign = func(body []byte) (string, error) {
			value, err := sign(body)
			bare, found := strings.CutPrefix(value, "sha256=")
			assert.True(t, found)
			return bare, err
		}
		report, err := sender.Deliver(t.Context(), url, []byte(changed))
		require.NoError(t, err)
		assert.Len(t, report.Attempts, 1, "%s: %v", name, report)
	}
}

// TestFullPool: what there is no place for is not acknowledged, and
// Compliancely's retry brings it again.
func TestFullPool(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var worked atomic.Int64
	rc := newTestReceiver(t, testConfig, func(context.Context, *middleware.Delivery) error {
		<-release
		worked.Add(1)
		return nil
	})
	url := serve(t, rc)
	held := 0
	for rc.pool.Put(t.Context(), &middleware.Delivery{Sender: "compliancely"}) == nil {
		held++
	}
	assert.Equal(t, 1008, held)
	sender := compliancely(testConfig)
	sender.Wait = func(ctx context.Context, _ time.Duration) error {
		select {
		case <-release:
		default:
			close(release)
		}
		for worked.Load() < int64(held) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	report, err := sender.Deliver(ctx, url, []byte(changed))
	require.NoError(t, err)
	require.Len(t, report.Attempts, 2, report)
	assert.Equal(t, http.StatusServiceUnavailable, report.Attempts[0].Status)
	assert.Equal(t, http.StatusOK, report.Attempts[1].Status)
}

// TestEqualDeliveries: two of the same bytes may be two changes.
func TestEqualDeliveries(t *testing.T) {
	t.Parallel()
	worked := make(chan string, 2)
	url := serve(t, newTestReceiver(t, testConfig, func(_ context.Context, d *middleware.Delivery) error {
		worked <- d.ID()
		return nil
	}))
	for range 2 {
		report, err := compliancely(testConfig).Deliver(t.Context(), url, []byte(changed))
		require.NoError(t, err)
		require.Len(t, report.Attempts, 1, report)
	}
	assert.Equal(t, receive(t, worked), receive(t, worked))
}

func TestConfigure(t *testing.T) {
	one := [][]byte{[]byte("s")}
	tests := []struct {
		name    string
		env     map[string]string
		want    config
		wantErr string
	}{
		{"a secret", map[string]string{"COMPLIANCELY_SECRET": "s"}, config{defaultAddr, one, hmac.Hex}, ""},
		{"two and an address", map[string]string{"COMPLIANCELY_SECRET": "s", "COMPLIANCELY_SECRET_PREVIOUS": "p", "ADDR": ":1"}, config{":1", [][]byte{[]byte("s"), []byte("p")}, hmac.Hex}, ""},
		{"hex", map[string]string{"COMPLIANCELY_SECRET": "s", "COMPLIANCELY_ENCODING": "hex"}, config{defaultAddr, one, hmac.Hex}, ""},
		{"base64", map[string]string{"COMPLIANCELY_SECRET": "s", "COMPLIANCELY_ENCODING": "base64"}, config{defaultAddr, one, hmac.Base64}, ""},
		{"another encoding", map[string]string{"COMPLIANCELY_SECRET": "hidden", "COMPLIANCELY_ENCODING": "base32"}, config{}, `COMPLIANCELY_ENCODING is "base32": set it to hex or base64`},
		{"nothing", nil, config{}, "COMPLIANCELY_SECRET is not set: "},
		{"previous only", map[string]string{"COMPLIANCELY_SECRET_PREVIOUS": "hidden"}, config{}, "COMPLIANCELY_SECRET is not set: "},
		{"line break", map[string]string{"COMPLIANCELY_SECRET": "hidden\n"}, config{}, "COMPLIANCELY_SECRET has a line break"},
		{"line break in previous", map[string]string{"COMPLIANCELY_SECRET": "s", "COMPLIANCELY_SECRET_PREVIOUS": "hidden\r"}, config{}, "COMPLIANCELY_SECRET_PREVIOUS has a line break"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := configure(func(name string) string { return test.env[name] })
			if test.wantErr != "" {
				require.ErrorContains(t, err, test.wantErr)
				assert.NotContains(t, err.Error(), "hidden")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestRunFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	inUse := listener.Addr().String()
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{"no secret", map[string]string{"COMPLIANCELY_SECRET": ""}, "COMPLIANCELY_SECRET is not set"},
		{"blank secret", map[string]string{"COMPLIANCELY_SECRET": "   "}, "secret 1 of 1 is blank"},
		{"address in use", map[string]string{"ADDR": inUse}, "ADDR: listen tcp " + inUse},
		{"no address", map[string]string{"ADDR": "8080"}, "ADDR: listen tcp: address 8080"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{"COMPLIANCELY_SECRET": secret}
			maps.Copy(env, test.env)
			err := run(t.Context(), func(name string) string { return env[name] }, work)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

// TestServerFails: a server that cannot go on ends the program, and what it
// has acknowledged is worked on nevertheless.
func TestServerFails(t *testing.T) {
	t.Parallel()
	var worked atomic.Int64
	rc, err := newReceiver(testConfig, func(context.Context, *middleware.Delivery) error {
		time.Sleep(10 * time.Millisecond)
		worked.Add(1)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, rc.pool.Put(t.Context(), &middleware.Delivery{}))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorIs(t, rc.serve(t.Context(), listener), net.ErrClosed)
	assert.EqualValues(t, 1, worked.Load())
}

func TestTimes(t *testing.T) {
	rc := newTestReceiver(t, testConfig, work)
	contract, server := rc.guard.Contract, rc.server()
	for name, limit := range map[string]time.Duration{
		"ReadHeaderTimeout": server.ReadHeaderTimeout, "ReadTimeout": server.ReadTimeout,
		"WriteTimeout": server.WriteTimeout, "IdleTimeout": server.IdleTimeout,
	} {
		assert.Positive(t, limit, name)
	}
	assert.Greater(t, server.WriteTimeout, contract.Deadline)
	assert.GreaterOrEqual(t, server.ReadTimeout, contract.Deadline)
	assert.Greater(t, serverTime, server.ReadTimeout)
	assert.Less(t, serverTime+guardTime+poolTime, 30*time.Second)
}
