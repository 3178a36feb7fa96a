package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRun starts the program, plays ConvoKraft during a rotation, and stops it.
func TestRun(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	defer reader.Close() // so that nothing hangs if the test fails
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		o := options{listen: "127.0.0.1:0", getenv: getenv(environment(t)), log: slog.New(slog.NewJSONHandler(writer, nil))}
		done <- run(ctx, o)
		writer.Close()
	}()
	lines := json.NewDecoder(reader)
	line := func() (l struct {
		Msg, Addr, Environment, Outcome, Key string
		Index                                int `json:"key_index"`
	}) {
		t.Helper()
		require.NoError(t, lines.Decode(&l))
		return l
	}
	listening := line()
	require.Equal(t, "listening", listening.Msg)
	base := "http://" + listening.Addr

	// A new key has been made and the project is not deployed yet.
	development := strings.Replace(execute, "production", "development", 1)
	for _, tt := range []struct {
		pair              int
		body              string
		status            int
		outcome, key, env string
		index             int
	}{
		{current, development, http.StatusOK, "accepted", "CONVOKRAFT_PUBLIC_KEY", "development", 0},
		{previous, execute, http.StatusOK, "accepted", "CONVOKRAFT_PUBLIC_KEY_PREVIOUS", "production", 1},
		{stranger, execute, http.StatusUnauthorized, "refused", "none", "", -1},
	} {
		end := delivering(t, sender(tt.pair), base+path, tt.body)
		logged := line() // the log is a pipe: it must be read for the delivery to end
		if tt.status == http.StatusOK {
			assert.Equal(t, tt.env, logged.Environment)
			assert.Equal(t, tt.key, logged.Key)
			assert.Equal(t, tt.index, logged.Index)
			logged = line()
		}
		a := end()
		assert.Equal(t, tt.status, a.Status)
		assert.Equal(t, tt.outcome, logged.Outcome)
		assert.Equal(t, tt.key, logged.Key)
		assert.Equal(t, tt.index, logged.Index)
		if tt.status == http.StatusOK {
			assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
			assert.JSONEq(t, `{"status":"execution","message":"Noted: sick leave.","card":[],"data":{},"broadcast":{},"trigger":{},"followup":{}}`, string(a.Body))
		}
	}

	go func() {
		for lines.Decode(new(any)) == nil {
		}
	}()
	for _, probe := range []struct {
		method, path string
		want         int
	}{
		{http.MethodHead, path, http.StatusMethodNotAllowed},
		{http.MethodGet, path, http.StatusMethodNotAllowed},
		{http.MethodHead, "/", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), probe.method, base+probe.path, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, probe.want, resp.StatusCode, "%s %s", probe.method, probe.path)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	require.NoError(t, <-done)
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	o := options{listen: listener.Addr().String(), getenv: getenv(environment(t)), log: slog.New(slog.DiscardHandler)}
	var opErr *net.OpError
	require.ErrorAs(t, run(t.Context(), o), &opErr)
	o.getenv = getenv(nil)
	require.ErrorContains(t, run(t.Context(), o), "CONVOKRAFT_PUBLIC_KEY")
}

func TestServerFails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	log := slog.New(slog.DiscardHandler)
	receiver, guard := newReceiver(verifier(), &bot{log: log, work: work}, log)
	require.ErrorIs(t, serve(t.Context(), listener, newServer(receiver, log), guard), net.ErrClosed)
}

// TestStop cancels run's context while the bot works.
func TestStop(t *testing.T) {
	verifier()
	tests := []struct {
		name    string
		works   time.Duration
		stopAt  time.Duration
		wantEnd time.Duration // of serve
		wantOK  bool
	}{
		{"idle", 0, time.Second, time.Second, true},
		{"answer is under way", 3 * time.Second, time.Second, 3 * time.Second, true},
		{"late, done while the server stops", 10 * time.Second, 5 * time.Second, 10 * time.Second, true},
		{"late, done while the Guard stops", 30 * time.Second, 5 * time.Second, 30 * time.Second, true},
		{"late, and too long", 50 * time.Second, 5 * time.Second, 32 * time.Second, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ended := make(chan error, 1)
				b := &bot{work: func(ctx context.Context, req *request) (response, error) {
					resp, err := slowly(tt.works, work)(ctx, req)
					if err != nil {
						time.Sleep(cancelTime / 2) // to clean up
					}
					ended <- err
					return resp, err
				}}
				var l logs
				s, stop := served(t, b, &l)
				delivered := delivering(t, s, "http://bot/", execute)
				time.Sleep(tt.stopAt)
				err := stop()
				// net/http looks every now and then whether it may stop.
				assert.InDelta(t, tt.wantEnd.Seconds(), time.Since(start).Seconds(), 0.6)
				require.NoError(t, delivered().Err, "ConvoKraft had its answer")
				if tt.wantOK {
					require.NoError(t, err)
					require.NoError(t, <-ended)
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.ErrorContains(t, err, "still run: 1")
					require.Len(t, ended, 1, "the bot had the time to clean up")
					require.Error(t, <-ended, "the bot was told to end")
				}
				assert.Zero(t, deliver(t, s, "http://bot/", execute).Status, "nothing listens")
			})
		})
	}
}
