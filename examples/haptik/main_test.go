package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	secret   = "the secret_key of these tests"
	previous = "the secret_key before it"
)

var testConfig = config{addr: "127.0.0.1:0", secrets: [][]byte{[]byte(secret), []byte(previous)}}

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(program(slowWork))
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// haptik plays Haptik, and does not wait between attempts.
func haptik(secret string) *hooktest.Sender {
	return &hooktest.Sender{
		Contract: middleware.Haptik(),
		Header:   hmac.Haptik().Header,
		Sign:     func(body []byte) (string, error) { return hmac.Sign(hmac.Haptik(), []byte(secret), body) },
		Wait:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// newTestReceiver returns a receiver and, when the test is over, drains it.
func newTestReceiver(t *testing.T, work workFunc) *receiver {
	t.Helper()
	rc, err := newReceiver(testConfig, work)
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
	var worked atomic.Int64
	rc := newTestReceiver(t, func(ctx context.Context, d *middleware.Delivery) error {
		err := work(ctx, d)
		worked.Add(1)
		return err
	})
	sender := haptik(secret)
	sender.Effects = func() int { return int(worked.Load()) }
	sender.Once = true
	sender.Stranger = haptik("another secret_key").Sign
	hooktest.TestReceiver(t, rc.handler(), sender, []byte(chatCompleteBody), []byte(conversationBody), []byte(`{"event_name":"new"}`))
}

func TestEventsReachTheirFunctions(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"chat complete", chatCompleteBody, `msg="agent chat ended" conversation=4711 by_bot=false`},
		{"chat close", `{"event_name":"webhook_agent_chat_close","agent":{"is_automated":1}}`, `msg="agent chat ended" conversation="" by_bot=true`},
		{"conversation", conversationBody, `msg="conversation ended" conversation=4712`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := &middleware.Delivery{Sender: "haptik", Body: []byte(test.body)}
			text := logged(func() { require.NoError(t, work(t.Context(), d)) })
			assert.Contains(t, text, test.want)
			assert.Contains(t, text, `msg="worked on" id=`+d.ID()+" event=webhook_")
			assert.NotContains(t, text, "level=ERROR")
		})
	}
}

// TestOddEvents: what cannot be worked on is neither retried nor lost in
// silence, and the log shows nothing of it but names.
func TestOddEvents(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"unknown event", `{"event_name":"webhook_new","user":{"user_name":"Asha"}}`, `msg="unknown event ignored" id=ID event=webhook_new`},
		{"event without a name", `{"user":{"user_name":"Asha"}}`, `msg="unknown event ignored" id=ID event=""`},
		{"event with a long name", `{"event_name":"` + strings.Repeat("é", 1000) + `Asha"}`, `event=` + strings.Repeat("é", 64) + "\n"},
		{"not JSON", `Asha`, `level=ERROR msg="given up" id=ID err="the body is not JSON: see byte 1"`},
		{"user is not an object", `{"event_name":"webhook_conversation_complete_partial","user":"Asha"}`, `level=WARN msg="a part of the event is not an object, and was left out" id=ID part=user`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := &middleware.Delivery{Sender: "haptik", Body: []byte(test.body)}
			text := logged(func() { require.NoError(t, work(t.Context(), d)) })
			assert.Contains(t, strings.ReplaceAll(text, d.ID(), "ID"), test.want)
			assert.NotContains(t, text, "Asha")
		})
	}
}

func TestFailedLogsIDAndErrorOnly(t *testing.T) {
	d := &middleware.Delivery{Sender: "haptik", Body: []byte(chatCompleteBody), Header: http.Header{"X-Hub-Signature": {"sha1=00ff"}}}
	text := logged(func() { failed(d, errors.New("the database is away")) })
	assert.Contains(t, text, `msg="given up" id=`+d.ID()+` err="the database is away"`)
	for _, part := range []string{"Asha", "00ff", "X-Hub-Signature"} {
		assert.NotContains(t, text, part)
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, secret string
		wantStatus   int
		wantAttempts int
	}{
		{"current secret", secret, http.StatusOK, 1},
		{"previous secret", previous, http.StatusOK, 1},
		{"another secret", "another secret_key", http.StatusUnauthorized, 7},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			url := serve(t, newTestReceiver(t, func(_ context.Context, d *middleware.Delivery) error {
				got <- string(d.Body)
				return nil
			}))
			report, err := haptik(test.secret).Deliver(t.Context(), url, []byte(chatCompleteBody))
			require.NoError(t, err)
			require.Len(t, report.Attempts, test.wantAttempts, report)
			assert.Equal(t, test.wantStatus, report.Attempts[0].Status)
			if test.wantStatus == http.StatusOK {
				assert.Equal(t, chatCompleteBody, receive(t, got))
			}
			assert.Empty(t, got)
		})
	}
}

// TestFullPool: what there is no place for is not acknowledged, and Haptik's
// retry brings it again.
func TestFullPool(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var worked atomic.Int64
	rc := newTestReceiver(t, func(context.Context, *middleware.Delivery) error {
		<-release
		worked.Add(1)
		return nil
	})
	url := serve(t, rc)
	held := 0
	for rc.pool.Put(t.Context(), &middleware.Delivery{Sender: "haptik"}) == nil {
		held++
	}
	assert.Equal(t, 1008, held)
	sender := haptik(secret)
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
	report, err := sender.Deliver(ctx, url, []byte(chatCompleteBody))
	require.NoError(t, err)
	require.Len(t, report.Attempts, 2, report)
	assert.Equal(t, http.StatusServiceUnavailable, report.Attempts[0].Status)
	assert.Equal(t, http.StatusOK, report.Attempts[1].Status)
}

// TestWorkIsTriedAgain: errors of work cost the sender nothing.
func TestWorkIsTriedAgain(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	done := make(chan struct{})
	url := serve(t, newTestReceiver(t, func(context.Context, *middleware.Delivery) error {
		if calls.Add(1) == 1 {
			return errors.New("the database is away")
		}
		close(done)
		return nil
	}))
	for range 2 { // the second is a retry whose answer was lost, perhaps
		report, err := haptik(secret).Deliver(t.Context(), url, []byte(chatCompleteBody))
		require.NoError(t, err)
		require.Len(t, report.Attempts, 1, report)
		assert.Equal(t, http.StatusOK, report.Attempts[0].Status)
	}
	receive(t, done)
	assert.EqualValues(t, 2, calls.Load())
}

func TestConfigure(t *testing.T) {
	tests := []struct {
		name    string
		env     map[string]string
		want    config
		wantErr string
	}{
		{"a secret", map[string]string{"HAPTIK_SECRET": "s"}, config{defaultAddr, [][]byte{[]byte("s")}}, ""},
		{"two and an address", map[string]string{"HAPTIK_SECRET": "s", "HAPTIK_SECRET_PREVIOUS": "p", "ADDR": ":1"}, config{":1", [][]byte{[]byte("s"), []byte("p")}}, ""},
		{"nothing", nil, config{}, "HAPTIK_SECRET is not set: "},
		{"previous only", map[string]string{"HAPTIK_SECRET_PREVIOUS": "hidden"}, config{}, "HAPTIK_SECRET is not set: "},
		{"line break", map[string]string{"HAPTIK_SECRET": "hidden\n"}, config{}, "HAPTIK_SECRET has a line break"},
		{"line break in previous", map[string]string{"HAPTIK_SECRET": "s", "HAPTIK_SECRET_PREVIOUS": "hidden\r"}, config{}, "HAPTIK_SECRET_PREVIOUS has a line break"},
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
		{"no secret", map[string]string{"HAPTIK_SECRET": ""}, "HAPTIK_SECRET is not set"},
		{"blank secret", map[string]string{"HAPTIK_SECRET": "   "}, "secret 1 of 1 is blank"},
		{"address in use", map[string]string{"ADDR": inUse}, "ADDR: listen tcp " + inUse},
		{"no address", map[string]string{"ADDR": "8080"}, "ADDR: listen tcp: address 8080"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			env := map[string]string{"HAPTIK_SECRET": secret}
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
	rc := newTestReceiver(t, work)
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

	retries := time.Duration(0)
	for _, pause := range contract.Retries {
		retries += pause
	}
	require.Equal(t, time.Hour, retries, "Haptik's documented 60 minutes")
	assert.Greater(t, window(contract), retries+time.Duration(1+len(contract.Retries))*contract.Deadline)
}

// TestDeliverySurvivesJSON: failed tells users that it does.
func TestDeliverySurvivesJSON(t *testing.T) {
	d := middleware.Delivery{Sender: "haptik", Body: []byte(chatCompleteBody), Key: 1}
	text, err := json.Marshal(d)
	require.NoError(t, err)
	var got middleware.Delivery
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Equal(t, d.ID(), got.ID())
	assert.Equal(t, d, got)
}
