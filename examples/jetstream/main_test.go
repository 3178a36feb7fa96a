package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

const secret = "only in tests: vX9hG2"

// TestMain makes the test's binary the program if the environment says so.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asProgram) == "":
	case otherProgram != nil && os.Getenv(otherProgramVariable) != "":
		os.Exit(otherProgram())
	default:
		os.Exit(recordingProgram())
	}
	slog.SetDefault(slog.New(slog.DiscardHandler)) // failures on purpose are many
	os.Exit(m.Run())
}

// otherProgram runs in place of recordingProgram if the environment has its
// variable.
var (
	otherProgram         func() int
	otherProgramVariable string
)

// haptik plays Haptik.
func haptik() *hooktest.Sender {
	sign := func(secret string) func([]byte) (string, error) {
		return func(body []byte) (string, error) { return hmac.Sign(hmac.Haptik(), []byte(secret), body) }
	}
	return &hooktest.Sender{
		Contract: middleware.Haptik(),
		Header:   hmac.Haptik().Header,
		Sign:     sign(secret),
		Stranger: sign("another"),
	}
}

// delivery returns what the Guard makes of body.
func delivery(body string) *middleware.Delivery {
	return &middleware.Delivery{
		Sender: "haptik", Body: []byte(body), Key: 0, ReceivedAt: time.Now().UTC(),
		Header: http.Header{"Content-Type": {"application/json"}},
	}
}

// startJetStream starts an embedded server on dir and connects to it.
func startJetStream(t testing.TB, dir string) jetstream.JetStream {
	t.Helper()
	e, err := startEmbedded(dir, "")
	require.NoError(t, err)
	stop := sync.OnceFunc(func() { assert.NoError(t, e.stop()) })
	t.Cleanup(stop)
	nc, err := e.connect()
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// newQueue returns a Queue that is shut down at the end of the test.
func newQueue(t testing.TB, js jetstream.JetStream, o QueueOptions) *Queue {
	t.Helper()
	q, err := NewQueue(t.Context(), js, o)
	require.NoError(t, err)
	t.Cleanup(func() { shutdown(t, q) })
	return q
}

func shutdown(t testing.TB, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	assert.NoError(t, q.Shutdown(ctx))
}

// receive serves q behind a Guard, and returns a sender for it and the URL.
func receive(t testing.TB, q *Queue, contract middleware.Contract) (*hooktest.Sender, string) {
	t.Helper()
	guard, err := newGuard(config{secrets: [][]byte{[]byte(secret)}}, contract, 1<<20)
	require.NoError(t, err)
	guard.Observe = func(*http.Request, middleware.Result) {}
	server := httptest.NewServer(newServer(guard, q).Handler)
	t.Cleanup(server.Close)
	sender := haptik()
	sender.Contract = contract
	sender.Contract.Retries = nil
	transport := &http.Transport{MaxIdleConnsPerHost: 300}
	t.Cleanup(transport.CloseIdleConnections)
	sender.Client = &http.Client{Transport: transport}
	return sender, server.URL + path
}

// deliver makes one attempt and returns the status, or 0 if there was no answer.
func deliver(t testing.TB, s *hooktest.Sender, url, body string) int {
	t.Helper()
	report, err := s.Deliver(t.Context(), url, []byte(body))
	require.NoError(t, err)
	return report.Attempts[0].Status
}

// eventually waits for condition.
func eventually(t testing.TB, condition func() bool, limit time.Duration, what string) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			require.Fail(t, "not within "+limit.String(), what)
		}
	}
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	for name, withStore := range map[string]bool{"queue": false, "queue and store": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := startJetStream(t, t.TempDir())
			q := newQueue(t, js, QueueOptions{Window: Window(middleware.Haptik())})
			var worked atomic.Int64
			require.NoError(t, q.Work(t.Context(), func(context.Context, *middleware.Delivery) error {
				worked.Add(1)
				return nil
			}))
			guard, err := newGuard(config{secrets: [][]byte{[]byte(secret)}}, middleware.Haptik(), 1<<20)
			require.NoError(t, err)
			if withStore {
				guard.Store, err = NewStore(t.Context(), js, StoreOptions{})
				require.NoError(t, err)
			}
			sender := haptik()
			sender.Effects = func() int { return int(worked.Load()) }
			sender.Once = true
			hooktest.TestReceiver(t, guard.Handler(middleware.Ack(q.Put)), sender,
				[]byte(`{"event_name":"webhook_agent_chat_complete"}`), []byte("no JSON \xff\x00"), make([]byte, 200<<10))
		})
	}
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args []string
		env  map[string]string
		want string // in the error
	}{
		"defaults":               {nil, map[string]string{"HAPTIK_SECRET": secret}, ""},
		"cluster":                {[]string{"-nats", "nats://a,b,c", "-replicas", "3"}, map[string]string{"HAPTIK_SECRET": secret}, ""},
		"no secret":              {nil, nil, "HAPTIK_SECRET is not set"},
		"line break":             {nil, map[string]string{"HAPTIK_SECRET": secret, "HAPTIK_SECRET_PREVIOUS": "x\n"}, "HAPTIK_SECRET_PREVIOUS has a line break"},
		"replicas on one server": {[]string{"-replicas", "3"}, map[string]string{"HAPTIK_SECRET": secret}, "-replicas needs a cluster"},
		"credentials for none":   {[]string{"-creds", "x"}, map[string]string{"HAPTIK_SECRET": secret}, "-creds is for a cluster"},
		"two servers":            {[]string{"-nats", "x", "-nats-listen", "x"}, map[string]string{"HAPTIK_SECRET": secret}, "-nats-listen is for the embedded server"},
		"argument":               {[]string{"serve"}, map[string]string{"HAPTIK_SECRET": secret}, `unexpected argument "serve"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := configure(test.args, func(name string) string { return test.env[name] }, io.Discard)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

// TestEmbedded: a server that others may reach on this machine only, and a
// folder that one server uses.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := startEmbedded(dir, "0.0.0.0:4222")
	require.ErrorContains(t, err, "not a loopback address")
	e, err := startEmbedded(dir, "127.0.0.1:0")
	require.NoError(t, err)
	nc, err := nats.Connect(e.server.ClientURL())
	require.NoError(t, err)
	nc.Close()
	if locks {
		_, err = startEmbedded(dir, "")
		require.ErrorContains(t, err, "used by another process")
	}
	require.NoError(t, e.stop())
	e, err = startEmbedded(dir, "")
	require.NoError(t, err)
	require.NoError(t, e.stop())
}

// TestRunStops: run ends when it is told to, by itself, with nothing left
// behind, and a second run goes on with what the first has left.
func TestRunStops(t *testing.T) {
	t.Parallel()
	c := config{addr: "127.0.0.1:0", dir: t.TempDir(), replicas: 1, maxBytes: 1 << 20, workers: 4, store: true, secrets: [][]byte{[]byte(secret)}}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		require.NoError(t, run(ctx, c, work, QueueOptions{}))
		cancel()
	}
	c.addr = "nowhere:x"
	require.ErrorContains(t, run(t.Context(), c, work, QueueOptions{}), "-addr")
	c.nats = "nats://127.0.0.1:1"
	require.ErrorContains(t, run(t.Context(), c, work, QueueOptions{}), "connecting to NATS")
}

var errAway = errors.New("the database is away")

// counter counts what was worked on.
type counter struct {
	mu    sync.Mutex
	times map[string]int // by ID
}

func newCounter() *counter { return &counter{times: make(map[string]int)} }

func (c *counter) add(d *middleware.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[d.ID()]++
}

func (c *counter) work(_ context.Context, d *middleware.Delivery) error {
	c.add(d)
	return nil
}

// of returns how many different deliveries there were, and how many times more
// than once.
func (c *counter) of() (different, repeated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.times {
		repeated += n - 1
	}
	return len(c.times), repeated
}

// missing returns how many of ids were never worked on.
func (c *counter) missing(ids map[string]bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for id := range ids {
		if c.times[id] == 0 {
			n++
		}
	}
	return n
}

func body(format string, v ...any) string {
	return fmt.Sprintf(`{"event_name":"webhook_agent_chat_complete","data":{"conversation_no":"%s"}}`, fmt.Sprintf(format, v...))
}
