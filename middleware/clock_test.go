package middleware_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/middleware"
)

// TestOneGuardOnTwoClocks: a test on testing/synctest's clock may use the
// program's own Guard, before, while and after others use it. What belongs to
// one clock and is touched on another would end the process.
func TestOneGuardOnTwoClocks(t *testing.T) {
	var rs results
	release := make(chan struct{})
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Haptik(), Observe: rs.observe}
	handler := guard.Handler(handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		switch d, _ := middleware.FromContext(r.Context()); string(d.Body) {
		case "until released":
			<-release
		case "until its time is over":
			<-ctx.Done()
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	deliver := func(body string) int {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set(sigHeader, sign(t, body))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	bubble := func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			assert.Equal(t, 202, deliver("at once"))
			assert.Zero(t, time.Since(start))
			assert.Equal(t, 200, deliver("until its time is over"))
			assert.Equal(t, 4*time.Second, time.Since(start))
			time.Sleep(time.Minute)
		})
	}
	for range 2 {
		bubble(t)
	}
	assert.Equal(t, 202, deliver("at once"))
	bubble(t)
	var outside sync.WaitGroup
	defer outside.Wait()
	outside.Go(func() { assert.Equal(t, 202, deliver("until released")) })
	for range 2 {
		bubble(t)
	}
	close(release)
	outside.Wait()
	assert.Equal(t, 202, deliver("at once"))
	bubble(t)
	require.NoError(t, guard.Shutdown(t.Context()))
	assert.Len(t, rs.get(), 6*3+3)
}

// TestAnswersDue: all requests of a Guard share one timer, but for those on
// testing/synctest's clock; so this and the tests below wait in earnest. Each
// slow handler goes on until its delivery has been answered, so that an alarm
// which does not ring is an answer that never comes. A third of the bodies
// trickle in, so that requests do not come to their handlers in the order in
// which their answers are due, and a third of the handlers end before they are.
func TestAnswersDue(t *testing.T) {
	t.Parallel()
	const n, deadline = 300, 4 * time.Second
	var rs results
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Contract{Deadline: deadline}, Observe: rs.observe}
	answered := make([]chan struct{}, n)
	for i := range answered {
		answered[i] = make(chan struct{})
	}
	srv := httptest.NewServer(guard.Handler(handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ I int }
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&body))
		if body.I%3 == 0 {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		<-answered[body.I]
	})))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		text := fmt.Sprintf(`{"I":%d}`, i)
		value := sign(t, text)
		wg.Go(func() {
			defer close(answered[i])
			var body io.Reader = strings.NewReader(text)
			if i%3 == 1 {
				body = &trickle{text: text, pause: time.Duration(i) * time.Millisecond}
			}
			r := request(t, http.MethodPost, srv.URL, body, sigHeader, value)
			start := time.Now()
			resp, err := srv.Client().Do(r.WithContext(ctx))
			if !assert.NoError(t, err) {
				return
			}
			took := time.Since(start)
			assert.NoError(t, resp.Body.Close())
			if i%3 == 0 {
				assert.Equal(t, 202, resp.StatusCode)
				return
			}
			assert.Equal(t, 200, resp.StatusCode)
			assert.GreaterOrEqual(t, took, deadline*3/4, "answered before it was due")
		})
	}
	wg.Wait()
	require.NoError(t, guard.Shutdown(ctx))
	count := make(map[middleware.Outcome]int)
	for _, res := range rs.get() {
		count[res.Outcome]++
	}
	assert.Equal(t, map[middleware.Outcome]int{
		middleware.Accepted: n / 3,
		middleware.Late:     2 * n / 3,
		middleware.LateDone: 2 * n / 3,
	}, count)
}

// TestAnswerDueBeforeThoseThatWait: the timer is set for a request that came
// later, whose handler ends only when the first has its answer.
func TestAnswerDueBeforeThoseThatWait(t *testing.T) {
	t.Parallel()
	answered, running := make(chan struct{}), make(chan struct{})
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Contract{Deadline: 4 * time.Second}, Observe: new(results).observe}
	srv := httptest.NewServer(guard.Handler(handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, _ := middleware.FromContext(r.Context()); string(d.Body) == "second" {
			close(running)
		}
		<-answered
		w.WriteHeader(http.StatusAccepted)
	})))
	defer srv.Close()

	body, rest := io.Pipe()
	var first sync.WaitGroup
	first.Go(func() {
		defer close(answered)
		resp, err := srv.Client().Do(request(t, http.MethodPost, srv.URL, body, sigHeader, sign(t, "first")))
		if assert.NoError(t, err) {
			assert.Equal(t, 200, resp.StatusCode, "not in time for the handler")
			assert.NoError(t, resp.Body.Close())
		}
	})
	_, err := io.WriteString(rest, "fir")
	require.NoError(t, err)
	time.Sleep(2 * time.Second) // the first is to be due this much before the second
	first.Go(func() {
		<-running
		_, err := io.WriteString(rest, "st")
		assert.NoError(t, err)
		assert.NoError(t, rest.Close())
	})
	resp, _ := do(t, srv.Client(), post(t, srv.URL, "second", sigHeader, sign(t, "second")))
	assert.Equal(t, 202, resp.StatusCode, "the first was not answered before the second")
	first.Wait()
	require.NoError(t, guard.Shutdown(t.Context()))
}

// TestEndAsTheAnswerIsDue: handlers that end just then are answered once, by
// themselves or for them, and leave the others' alarms alone.
func TestEndAsTheAnswerIsDue(t *testing.T) {
	const senders, deliveries, deadline = 20, 50, 8 * time.Millisecond
	var rs results
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Contract{Deadline: deadline}, Observe: rs.observe}
	handler := guard.Handler(handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, _ := middleware.FromContext(r.Context())
		time.Sleep(time.Until(d.ReceivedAt.Add(deadline * 3 / 4)))
		w.WriteHeader(http.StatusAccepted)
	}))
	value := sign(t, "{}")
	var late, inTime atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range deliveries {
				r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
				r.Header.Set(sigHeader, value)
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				switch w.Code {
				case 200:
					late.Add(1)
				case 202:
					inTime.Add(1)
				default:
					t.Errorf("answered %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, guard.Shutdown(t.Context()))
	t.Logf("%d answered by their handlers, %d for them", inTime.Load(), late.Load())
	assert.EqualValues(t, senders*deliveries, inTime.Load()+late.Load())
	assert.EqualValues(t, inTime.Load()+2*late.Load(), len(rs.get()))
}

// trickle is a body that comes in two halves with a pause between them.
type trickle struct {
	text  string
	pause time.Duration
	read  int
}

func (b *trickle) Read(p []byte) (int, error) {
	end := len(b.text)
	if b.read == 0 {
		end /= 2
	} else if b.read < end {
		time.Sleep(b.pause)
	}
	n := copy(p, b.text[b.read:end])
	b.read += n
	if b.read == len(b.text) {
		return n, io.EOF
	}
	return n, nil
}
