package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

const secret = "the secret_key of these tests"

func TestMain(m *testing.M) {
	switch os.Getenv(asProgram) {
	case impatient:
		os.Exit(program(slowWork, QueueOptions{
			Attempts: 1000, // each kill may cost one
			Timeout:  time.Second,
			Backoff:  func(int) time.Duration { return 50 * time.Millisecond },
		}))
	case asItIs:
		os.Exit(program(slowWork, QueueOptions{}))
	}
	if os.Getenv("HOOKTRUST_POSTGRES") == "" {
		fmt.Fprintln(os.Stderr, "These tests need a PostgreSQL server. Start one for them with\n\n\t./with-postgres go test ./...")
		os.Exit(1)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // they wait more than they work
		panic(err)
	}
	os.Exit(m.Run())
}

// newDatabase creates an empty database, drops it when the test is over, and
// returns its URL.
func newDatabase(tb testing.TB) string {
	tb.Helper()
	name := "hooktrust_" + strings.ToLower(rand.Text())
	execute := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, os.Getenv("HOOKTRUST_POSTGRES"))
		require.NoError(tb, err)
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, sql)
		require.NoError(tb, err)
	}
	execute("CREATE DATABASE " + name)
	tb.Cleanup(func() { execute("DROP DATABASE " + name + " WITH (FORCE)") })
	u, err := url.Parse(os.Getenv("HOOKTRUST_POSTGRES"))
	require.NoError(tb, err)
	u.Path = "/" + name
	return u.String()
}

// newPool returns connections to database.
func newPool(tb testing.TB, database string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(context.Background(), database)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// environment returns a getenv for the given database.
func environment(database string) func(string) string {
	return func(name string) string {
		return map[string]string{"DATABASE_URL": database, "HAPTIK_SECRET": secret, "ADDR": "127.0.0.1:0"}[name]
	}
}

// newTestReceiver returns a receiver whose queue has not been started.
func newTestReceiver(tb testing.TB, database string, work workFunc, o QueueOptions) *receiver {
	tb.Helper()
	c, err := configure(environment(database))
	require.NoError(tb, err)
	rc, err := newReceiver(context.Background(), c, work, o)
	require.NoError(tb, err)
	tb.Cleanup(rc.close)
	return rc
}

// start starts rc's queue and stops it when the test is over.
func start(tb testing.TB, rc *receiver) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(tb, rc.queue.Start(ctx))
	tb.Cleanup(func() { stop(tb, rc) })
}

func stop(tb testing.TB, rc *receiver) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	assert.NoError(tb, rc.guard.Shutdown(ctx))
	assert.NoError(tb, rc.queue.Shutdown(ctx))
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

func delivery(body string) *middleware.Delivery {
	return &middleware.Delivery{
		Sender: "haptik", Body: []byte(body), Header: http.Header{"X-Hub-Signature": {"sha1=00"}}, ReceivedAt: time.Now(),
	}
}

func TestReceiver(t *testing.T) {
	t.Parallel()
	var worked atomic.Int64
	rc := newTestReceiver(t, newDatabase(t), func(context.Context, *middleware.Delivery) error {
		worked.Add(1)
		return nil
	}, QueueOptions{})
	start(t, rc)
	sender := haptik(secret)
	sender.Effects = func() int { return int(worked.Load()) }
	sender.Once = true
	sender.Stranger = haptik("another secret_key").Sign
	hooktest.TestReceiver(t, rc.handler(), sender, []byte(`{"event_name":"one"}`), []byte(`{"event_name":"two"}`), []byte("\x00 is no JSON \xff"))
}

// TestDatabaseAway: a server that refuses connections, and one that accepts
// them and says nothing, are told to the sender in time.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var held sync.Map // connections
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			held.Store(conn, nil)
		}
	}()
	t.Cleanup(func() {
		_ = silent.Close()
		held.Range(func(conn, _ any) bool { _ = conn.(io.Closer).Close(); return true })
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	for name, address := range map[string]net.Addr{"refuses": closed.Addr(), "silent": silent.Addr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := fmt.Sprintf("postgres://someone:its_password@%s/db?sslmode=disable", address)
			rc := newTestReceiver(t, database, work, QueueOptions{})
			observed := make(chan middleware.Result, 1)
			rc.guard.Observe = func(_ *http.Request, res middleware.Result) { observed <- res }
			server := httptest.NewServer(rc.server().Handler)
			t.Cleanup(server.Close)

			sender := haptik(secret)
			sender.Contract.Retries = nil
			report, err := sender.Deliver(t.Context(), server.URL+path, []byte(`{}`))
			require.NoError(t, err)
			attempt := report.Attempts[0]
			assert.Equal(t, http.StatusServiceUnavailable, attempt.Status, report)
			assert.Less(t, attempt.Elapsed, sender.Contract.Deadline)
			assert.NotContains(t, string(attempt.Body), "127.0.0.1", "what went wrong is the operator's alone")
			res := <-observed
			require.Error(t, res.Err)
			assert.NotContains(t, res.Err.Error(), "its_password")

			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err = run(ctx, environment(database), work, QueueOptions{})
			require.Error(t, err, "without a server the program does not start")
			assert.NotContains(t, err.Error(), "its_password")
		})
	}
}

func TestConfigure(t *testing.T) {
	const database = "postgres://someone:its_password@127.0.0.1/db"
	tests := []struct {
		name      string
		env       map[string]string
		wantErr   string // "": none
		wantConns int32
	}{
		{"all set", map[string]string{"DATABASE_URL": database, "HAPTIK_SECRET": secret}, "", 20},
		{"connections set", map[string]string{"DATABASE_URL": database + "?pool_max_conns=7", "HAPTIK_SECRET": secret}, "", 7},
		{"no database", map[string]string{"HAPTIK_SECRET": secret}, "DATABASE_URL is not set", 0},
		{"not a URL", map[string]string{"DATABASE_URL": database + "?sslmode=perhaps", "HAPTIK_SECRET": secret}, "DATABASE_URL: ", 0},
		{"no secret", map[string]string{"DATABASE_URL": database}, "HAPTIK_SECRET is not set", 0},
		{"line break", map[string]string{"DATABASE_URL": database, "HAPTIK_SECRET": secret + "\n"}, "line break", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := configure(func(name string) string { return test.env[name] })
			if test.wantErr != "" {
				require.ErrorContains(t, err, test.wantErr)
				assert.NotContains(t, err.Error(), "its_password")
				assert.NotContains(t, err.Error(), secret)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.wantConns, c.database.MaxConns)
			assert.LessOrEqual(t, c.database.ConnConfig.ConnectTimeout, 3*time.Second)
		})
	}
}

func TestWindow(t *testing.T) {
	assert.Equal(t, 3600*time.Second+7*5*time.Second+time.Hour, window(middleware.Haptik()))
}
