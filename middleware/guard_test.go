package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

const (
	secret    = "a secret for tests"
	sigHeader = "X-Hub-Signature"
)

func sign(t testing.TB, body string) string {
	t.Helper()
	value, err := hmac.Sign(hmac.Haptik(), []byte(secret), []byte(body))
	require.NoError(t, err)
	return value
}

func verifier(t testing.TB) *hmac.Verifier {
	t.Helper()
	v, err := hmac.New(hmac.Haptik(), []byte("current secret"), []byte(secret))
	require.NoError(t, err)
	return v
}

// results collects what Observe is told.
type results struct {
	mu  sync.Mutex
	all []middleware.Result
}

func (rs *results) observe(_ *http.Request, res middleware.Result) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.all = append(rs.all, res)
}

func (rs *results) get() []middleware.Result {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return append([]middleware.Result(nil), rs.all...)
}

// only returns the one result, and waits for it: Observe is told after the
// client has its answer.
func (rs *results) only(t *testing.T) middleware.Result {
	t.Helper()
	require.Eventually(t, func() bool { return len(rs.get()) > 0 }, 5*time.Second, time.Millisecond)
	all := rs.get()
	require.Len(t, all, 1)
	return all[0]
}

// seen is a handler that records what it is given.
type seen struct {
	mu       sync.Mutex
	runs     int
	body     []byte
	length   int64
	encoding []string
	delivery *middleware.Delivery
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	s.body, _ = io.ReadAll(r.Body)
	s.length, s.encoding = r.ContentLength, r.TransferEncoding
	s.delivery, _ = middleware.FromContext(r.Context())
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, "done")
}

func post(t *testing.T, url, body string, header ...string) *http.Request {
	t.Helper()
	return request(t, http.MethodPost, url, strings.NewReader(body), header...)
}

// request makes one with the header's names and values in turn.
func request(t *testing.T, method, url string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// do returns the answer with its body read.
func do(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(body)
}

// chunked hides a reader's length from net/http.
type chunked struct{ io.Reader }

func TestHandlerAnswers(t *testing.T) {
	const body = `{"event_name":"webhook_agent_chat_complete"}`
	const limit = 1000
	good := sign(t, body)
	long := strings.Repeat("x", limit+1)
	exact := long[:limit]
	probing := middleware.Haptik()
	probing.Probe = []string{http.MethodHead, http.MethodGet}
	tests := []struct {
		name     string
		contract middleware.Contract
		method   string
		body     io.Reader
		header   []string
		status   int
		outcome  middleware.Outcome
		wantErr  error
	}{
		{"genuine", middleware.Haptik(), "POST", strings.NewReader(body), []string{sigHeader, good}, 202, middleware.Accepted, nil},
		{"genuine, chunked", middleware.Haptik(), "POST", chunked{strings.NewReader(body)}, []string{sigHeader, good}, 202, middleware.Accepted, nil},
		{"genuine, empty", middleware.Haptik(), "POST", nil, []string{sigHeader, sign(t, "")}, 202, middleware.Accepted, nil},
		{"genuine, of MaxBody", middleware.Haptik(), "POST", strings.NewReader(exact), []string{sigHeader, sign(t, exact)}, 202, middleware.Accepted, nil},
		{"genuine, of MaxBody, chunked", middleware.Haptik(), "POST", chunked{strings.NewReader(exact)}, []string{sigHeader, sign(t, exact)}, 202, middleware.Accepted, nil},
		{"genuine, no contract", middleware.Contract{}, "POST", strings.NewReader(body), []string{sigHeader, good}, 202, middleware.Accepted, nil},
		{"POST is never a probe", middleware.Contract{Probe: []string{"POST"}}, "POST", strings.NewReader(body), nil, 401, middleware.Refused, hmac.ErrMissing},

		{"tampered", middleware.Haptik(), "POST", strings.NewReader(body + " "), []string{sigHeader, good}, 401, middleware.Refused, hmac.ErrMismatch},
		{"unsigned", middleware.Haptik(), "POST", strings.NewReader(body), nil, 401, middleware.Refused, hmac.ErrMissing},
		{"unsigned, empty", middleware.Haptik(), "POST", nil, nil, 401, middleware.Refused, hmac.ErrMissing},
		{"empty signature", middleware.Haptik(), "POST", strings.NewReader(body), []string{sigHeader, ""}, 401, middleware.Refused, hmac.ErrMalformed},
		{"malformed", middleware.Haptik(), "POST", strings.NewReader(body), []string{sigHeader, "sha1=x"}, 401, middleware.Refused, hmac.ErrMalformed},
		{"twice", middleware.Haptik(), "POST", strings.NewReader(body), []string{sigHeader, good, sigHeader, good}, 401, middleware.Refused, hmac.ErrMalformed},
		{"of MaxBody, unsigned", middleware.Haptik(), "POST", strings.NewReader(exact), nil, 401, middleware.Refused, hmac.ErrMissing},

		{"too large", middleware.Haptik(), "POST", strings.NewReader(long), []string{sigHeader, sign(t, long)}, 413, middleware.TooLarge, middleware.ErrTooLarge},
		{"too large, chunked", middleware.Haptik(), "POST", chunked{strings.NewReader(long)}, []string{sigHeader, sign(t, long)}, 413, middleware.TooLarge, middleware.ErrTooLarge},
		{"2 MiB, chunked", middleware.Haptik(), "POST", chunked{strings.NewReader(strings.Repeat("y", 2<<20))}, nil, 413, middleware.TooLarge, middleware.ErrTooLarge},

		{"GET", middleware.Haptik(), "GET", nil, []string{sigHeader, sign(t, "")}, 405, middleware.BadMethod, middleware.ErrMethod},
		{"GET with a body", middleware.Haptik(), "GET", strings.NewReader(body), []string{sigHeader, good}, 405, middleware.BadMethod, middleware.ErrMethod},
		{"PUT", middleware.Haptik(), "PUT", strings.NewReader(body), []string{sigHeader, good}, 405, middleware.BadMethod, middleware.ErrMethod},
		{"HEAD", middleware.Haptik(), "HEAD", nil, nil, 405, middleware.BadMethod, middleware.ErrMethod},
		{"OPTIONS", middleware.Haptik(), "OPTIONS", nil, nil, 405, middleware.BadMethod, middleware.ErrMethod},
		{"method post in lower case", middleware.Haptik(), "post", strings.NewReader(body), []string{sigHeader, good}, 405, middleware.BadMethod, middleware.ErrMethod},

		{"HEAD probe", middleware.SalesIQ(), "HEAD", nil, nil, 200, middleware.Probed, nil},
		{"GET probe", probing, "GET", nil, nil, 200, middleware.Probed, nil},
		{"GET probe with a body", probing, "GET", strings.NewReader(body), []string{sigHeader, good}, 200, middleware.Probed, nil},
		{"GET where HEAD is the probe", middleware.SalesIQ(), "GET", nil, nil, 405, middleware.BadMethod, middleware.ErrMethod},
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, tt := range tests {
			t.Run(proto+"/"+tt.name, func(t *testing.T) {
				var rs results
				var handler seen
				guard := &middleware.Guard{Verifier: verifier(t), Contract: tt.contract, MaxBody: limit, Observe: rs.observe}
				srv := httptest.NewUnstartedServer(guard.Handler(&handler))
				srv.EnableHTTP2 = proto == "HTTP/2.0"
				srv.StartTLS()
				defer srv.Close()
				if s, ok := tt.body.(io.Seeker); ok {
					s.Seek(0, io.SeekStart)
				} else if c, ok := tt.body.(chunked); ok {
					c.Reader.(io.Seeker).Seek(0, io.SeekStart)
				}

				resp, answer := do(t, srv.Client(), request(t, tt.method, srv.URL, tt.body, tt.header...))
				assert.Equal(t, proto, resp.Proto)
				assert.Equal(t, tt.status, resp.StatusCode)
				switch tt.status {
				case 202:
					assert.Equal(t, "done", answer)
				case 200:
					assert.Empty(t, answer)
				default:
					if tt.method != "HEAD" {
						assert.Equal(t, http.StatusText(tt.status)+"\n", answer)
					}
				}
				wantAllow := ""
				if tt.status == 405 {
					wantAllow = strings.Join(append([]string{"POST"}, tt.contract.Probe...), ", ")
				}
				assert.Equal(t, wantAllow, resp.Header.Get("Allow"))

				res := rs.only(t)
				assert.Equal(t, tt.outcome, res.Outcome)
				assert.Equal(t, tt.status, res.Status)
				assert.Equal(t, tt.contract.Sender, res.Sender)
				assert.Positive(t, res.Elapsed)
				if tt.wantErr == nil {
					assert.NoError(t, res.Err)
				} else {
					assert.ErrorIs(t, res.Err, tt.wantErr)
				}
				if tt.outcome == middleware.Accepted {
					assert.Equal(t, 1, handler.runs)
					assert.Equal(t, 1, res.Key)
					assert.Equal(t, len(handler.body), res.Size)
				} else {
					assert.Zero(t, handler.runs)
					assert.Equal(t, -1, res.Key)
					assert.Zero(t, res.Size)
				}
			})
		}
	}
}

// TestSameAnswer: a client cannot tell from the answer in which way its
// signature was wrong.
func TestSameAnswer(t *testing.T) {
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Haptik(), Observe: new(results).observe}
	srv := httptest.NewServer(guard.Handler(http.NotFoundHandler()))
	defer srv.Close()
	const body = "{}"
	good := sign(t, body)
	var first string
	for _, values := range [][]string{nil, {""}, {"x"}, {good[:20]}, {good + "00"}, {good, good}, {good + ", " + good}, {"sha1=" + strings.Repeat("0", 40)}} {
		r := post(t, srv.URL, body)
		for _, v := range values {
			r.Header.Add(sigHeader, v)
		}
		resp, answer := do(t, srv.Client(), r)
		resp.Header.Del("Date")
		got := fmt.Sprint(resp.StatusCode, resp.Header, answer)
		if first == "" {
			first = got
		}
		assert.Equal(t, first, got, "%q", values)
	}
	assert.Contains(t, first, "401")
}

func TestHandlerGetsTheVerifiedBytes(t *testing.T) {
	var handler seen
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Haptik(), Observe: new(results).observe}
	srv := httptest.NewServer(guard.Handler(&handler))
	defer srv.Close()
	// About the sizes of the pieces that a body is read in, 4 and 16 KiB.
	for _, size := range []int{0, 1, 4095, 4096, 4097, 20479, 20480, 20481, 36864, 100_000, 1 << 20} {
		body := strings.Repeat("0123456789abcde", size/15+1)[:size]
		for _, reader := range []io.Reader{strings.NewReader(body), chunked{strings.NewReader(body)}, inChunks(body)} {
			before := time.Now()
			resp, _ := do(t, srv.Client(), request(t, "POST", srv.URL, reader, sigHeader, sign(t, body), "X-Other", "kept"))
			require.Equal(t, 202, resp.StatusCode)
			require.Equal(t, body, string(handler.body))
			require.EqualValues(t, size, handler.length)
			require.Empty(t, handler.encoding)
			d := handler.delivery
			require.Equal(t, body, string(d.Body))
			require.Equal(t, size, cap(d.Body), "the copy has the exact size")
			require.Equal(t, "haptik", d.Sender)
			require.Equal(t, 1, d.Key)
			require.Equal(t, "kept", d.Header.Get("X-Other"))
			require.WithinRange(t, d.ReceivedAt, before, time.Now())
		}
	}
}

// inChunks returns a body that is sent in many small chunks.
func inChunks(body string) io.Reader {
	if len(body) > 5000 {
		return chunked{bufio.NewReaderSize(strings.NewReader(body), 1000)}
	}
	return chunked{&smallReads{strings.NewReader(body)}}
}

type smallReads struct{ r io.Reader }

func (s *smallReads) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 7)]) }

// TestBuffersAreNotReused keeps every Delivery and looks at them all at the
// end; the race detector sees a write to one of them.
func TestBuffersAreNotReused(t *testing.T) {
	var mu sync.Mutex
	kept := make(map[string]*middleware.Delivery)
	guard := &middleware.Guard{
		Verifier: verifier(t), Contract: middleware.Haptik(), Observe: new(results).observe,
	}
	handler := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, _ := middleware.FromContext(r.Context())
		mu.Lock()
		defer mu.Unlock()
		kept[r.URL.Path] = d
	}))
	const n = 2000
	text := func(i int) string {
		return strings.Repeat(strconv.Itoa(i)+",", []int{1, 100, 1000, 5000, 10000}[i%5])
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n; i += 8 {
				body := text(i)
				r := httptest.NewRequest("POST", "/"+strconv.Itoa(i), strings.NewReader(body))
				r.Header.Set(sigHeader, sign(t, body))
				if i%3 == 0 { // some are refused in between
					r.Header.Set(sigHeader, "sha1=")
				}
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
	wg.Wait()
	require.Len(t, kept, n-(n+2)/3)
	for path, d := range kept {
		i, err := strconv.Atoi(path[1:])
		require.NoError(t, err)
		require.Equal(t, text(i), string(d.Body))
		require.Equal(t, sign(t, text(i)), d.Header.Get(sigHeader))
	}
}

// TestDeliveryIsTheHandlersOwn: what a handler does to its request does not
// change the Delivery, nor does the next one's.
func TestDeliveryIsTheHandlersOwn(t *testing.T) {
	guard := &middleware.Guard{Verifier: verifier(t), Observe: new(results).observe}
	var d *middleware.Delivery
	handler := guard.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, _ = middleware.FromContext(r.Context())
		r.Header.Set(sigHeader, "changed")
		r.Header.Del("X-Other")
	}))
	r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	r.Header.Set(sigHeader, sign(t, "{}"))
	r.Header.Set("X-Other", "kept")
	handler.ServeHTTP(httptest.NewRecorder(), r)
	assert.Equal(t, sign(t, "{}"), d.Header.Get(sigHeader))
	assert.Equal(t, "kept", d.Header.Get("X-Other"))
}

// raw sends bytes over a connection of its own and returns the answer.
func raw(t *testing.T, srv *httptest.Server, text string, closeWrite bool) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	if closeWrite {
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	return resp
}

func TestRawRequests(t *testing.T) {
	good := sign(t, "0123456789")
	head := "POST / HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: " + good + "\r\n"
	tests := []struct {
		name       string
		text       string
		closeWrite bool
		status     int
		outcome    middleware.Outcome
	}{
		{"whole", head + "Content-Length: 10\r\n\r\n0123456789", false, 200, middleware.Accepted},
		{"cut off", head + "Content-Length: 10\r\n\r\n01234", true, 400, middleware.CutOff},
		{"cut off before the body", head + "Content-Length: 10\r\n\r\n", true, 400, middleware.CutOff},
		{"more than promised", head + "Content-Length: 9\r\n\r\n0123456789", false, 401, middleware.Refused},
		{"chunks, whole", head + "Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n", false, 200, middleware.Accepted},
		{"chunks, cut off", head + "Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n4567", true, 400, middleware.CutOff},
		{"chunks, no last chunk", head + "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n", true, 400, middleware.CutOff},
		{"chunks, bad length", head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", false, 400, middleware.CutOff},
		{"too large by its length, no body sent", head + "Content-Length: 1048577\r\n\r\n", false, 413, middleware.TooLarge},
		{"too large, waiting for 100", head + "Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n", false, 413, middleware.TooLarge},
		{"PUT whose body does not come", strings.Replace(head, "POST", "PUT", 1) + "Content-Length: 10\r\n\r\n", false, 405, middleware.BadMethod},
		{"folded header", "POST / HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: " + good[:20] + "\r\n " + good[20:] + "\r\nContent-Length: 10\r\n\r\n0123456789", false, 401, middleware.Refused},
		{"trailer with the signature", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Hub-Signature\r\n\r\na\r\n0123456789\r\n0\r\nX-Hub-Signature: " + good + "\r\n\r\n", false, 401, middleware.Refused},
		{"header in lower case", "POST / HTTP/1.1\r\nhost: x\r\nx-hub-signature: " + good + "\r\ncontent-length: 10\r\n\r\n0123456789", false, 200, middleware.Accepted},
		{"HTTP/1.0", strings.Replace(head, "1.1", "1.0", 1) + "Content-Length: 10\r\n\r\n0123456789", false, 200, middleware.Accepted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rs results
			runs := 0
			guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.Haptik(), Observe: rs.observe}
			srv := httptest.NewServer(guard.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runs++ })))
			defer srv.Close()
			resp := raw(t, srv, tt.text, tt.closeWrite)
			assert.Equal(t, tt.status, resp.StatusCode)
			assert.Equal(t, tt.outcome, rs.only(t).Outcome)
			assert.Equal(t, tt.outcome == middleware.Accepted, runs == 1)
		})
	}
}

// TestOuterMaxBytesReader: a limit that somebody set before the Guard counts.
func TestOuterMaxBytesReader(t *testing.T) {
	var rs results
	guard := &middleware.Guard{Verifier: verifier(t), Observe: rs.observe}
	srv := httptest.NewServer(http.MaxBytesHandler(guard.Handler(http.NotFoundHandler()), 10))
	defer srv.Close()
	resp, _ := do(t, srv.Client(), post(t, srv.URL, "01234567890", sigHeader, sign(t, "01234567890")))
	assert.Equal(t, 413, resp.StatusCode)
	assert.ErrorIs(t, rs.only(t).Err, middleware.ErrTooLarge)
}

func TestHandlerPanicsOnMisuse(t *testing.T) {
	assert.Panics(t, func() { new(middleware.Guard).Handler(http.NotFoundHandler()) })
	assert.Panics(t, func() { (&middleware.Guard{Verifier: verifier(t)}).Handler(nil) })
}

// plainVerifier has no VerifyKey.
type plainVerifier func(body []byte, header http.Header) error

func (f plainVerifier) Verify(body []byte, header http.Header) error { return f(body, header) }

func TestVerifiers(t *testing.T) {
	tests := []struct {
		name     string
		verifier middleware.Verifier
		status   int
		key      int
	}{
		{"plain, accepts", plainVerifier(func([]byte, http.Header) error { return nil }), 202, -1},
		{"plain, refuses", plainVerifier(func([]byte, http.Header) error { return errors.New("no") }), 401, -1},
		{"refuses with one of the Guard's errors", plainVerifier(func([]byte, http.Header) error { return middleware.ErrProbe }), 401, -1},
		{"nil in the interface", (*hmac.Verifier)(nil), 401, -1},
		{"zero value", new(hmac.Verifier), 401, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rs results
			var handler seen
			guard := &middleware.Guard{Verifier: tt.verifier, Observe: rs.observe}
			w := httptest.NewRecorder()
			guard.Handler(&handler).ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")))
			assert.Equal(t, tt.status, w.Code)
			assert.Equal(t, tt.key, rs.only(t).Key)
			assert.Equal(t, tt.status == 202, handler.runs == 1)
		})
	}
}

func TestHandlerStatus(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, 200},
		{"body only", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }, 200},
		{"status only", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 503},
		{"the first counts", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(500) }, 201},
		{"after 103", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(204) }, 204},
		{"flushed", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.WriteHeader(500) }, 200},
		{"through a ResponseController", func(w http.ResponseWriter, _ *http.Request) {
			if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)) == nil {
				w.WriteHeader(203)
			}
		}, 203},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rs results
			guard := &middleware.Guard{Verifier: verifier(t), Observe: rs.observe}
			srv := httptest.NewUnstartedServer(guard.Handler(tt.handler))
			srv.Config.ErrorLog = discard
			srv.Start()
			defer srv.Close()
			resp, _ := do(t, srv.Client(), post(t, srv.URL, "{}", sigHeader, sign(t, "{}")))
			assert.Equal(t, tt.status, resp.StatusCode)
			assert.Equal(t, tt.status, rs.only(t).Status)
		})
	}
}

func TestHandlerPanic(t *testing.T) {
	outOfRange := func() { _ = []byte("{}")[len(secret)] }
	tests := []struct {
		name    string
		handler func(http.ResponseWriter)
		status  int // 0: the connection ends without an answer
		text    string
	}{
		{"a value", func(http.ResponseWriter) { panic("body: " + secret) }, 500, "with a value of type string"},
		{"an error", func(http.ResponseWriter) { panic(errors.New("body: " + secret)) }, 500, "*errors.errorString"},
		{"of the runtime", func(http.ResponseWriter) { outOfRange() }, 500, "index out of range"},
		{"after it has set a header", func(w http.ResponseWriter) {
			w.Header().Set("X-Secret", secret)
			panic("body")
		}, 500, "of type string"},
		{"nil", func(http.ResponseWriter) { panic(nil) }, 500, "nil"},
		{"abort", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 0, "abort"},
		{"invalid status", func(w http.ResponseWriter) { w.WriteHeader(0) }, 500, ""},
	}
	for _, contract := range []middleware.Contract{{}, {MaxResponse: 1000}, {Deadline: time.Minute}} {
		for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
			for _, tt := range tests {
				t.Run(fmt.Sprint(contract, proto, tt.name), func(t *testing.T) {
					var rs results
					guard := &middleware.Guard{Verifier: verifier(t), Contract: contract, Observe: rs.observe}
					srv := httptest.NewUnstartedServer(guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.handler(w) })))
					srv.EnableHTTP2 = proto == "HTTP/2.0"
					srv.Config.ErrorLog = discard
					srv.StartTLS()
					defer srv.Close()
					resp, err := srv.Client().Do(post(t, srv.URL, "{}", sigHeader, sign(t, "{}")))
					if tt.status == 0 {
						assert.Error(t, err)
					} else {
						require.NoError(t, err)
						answer, err := io.ReadAll(resp.Body)
						require.NoError(t, err)
						assert.Equal(t, "Internal Server Error\n", string(answer))
						assert.Equal(t, tt.status, resp.StatusCode)
						assert.Equal(t, proto, resp.Proto)
						held := contract.Deadline > 0 || contract.MaxResponse > 0
						assert.Equal(t, held || tt.name != "after it has set a header", resp.Header.Get("X-Secret") == "", "what was held back is dropped whole")
					}
					res := rs.only(t)
					assert.Equal(t, middleware.Panicked, res.Outcome)
					assert.Equal(t, tt.status, res.Status)
					assert.ErrorContains(t, res.Err, tt.text)
					assert.NotContains(t, res.Err.Error(), secret)
					assert.Equal(t, tt.status != 0, strings.Contains(res.Stack, "guard_test.go"), "the stack leads to the panic")
					assert.NoError(t, guard.Shutdown(t.Context()))
				})
			}
		}
	}
}

func TestCheck(t *testing.T) {
	guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.SalesIQ(), MaxBody: 100, Observe: func(*http.Request, middleware.Result) {
		t.Error("Check told Observe")
	}}
	tests := []struct {
		name    string
		guard   *middleware.Guard
		method  string
		body    string
		value   string
		wantErr []error
	}{
		{"genuine", guard, "POST", "{}", sign(t, "{}"), nil},
		{"tampered", guard, "POST", "{ }", sign(t, "{}"), []error{middleware.ErrRefused, hmac.ErrMismatch}},
		{"malformed", guard, "POST", "{}", "x", []error{middleware.ErrRefused, hmac.ErrMalformed}},
		{"too large", guard, "POST", strings.Repeat("x", 101), "x", []error{middleware.ErrTooLarge}},
		{"probe", guard, "HEAD", "", "x", []error{middleware.ErrProbe}},
		{"method", guard, "DELETE", "", "x", []error{middleware.ErrMethod}},
		{"no Verifier", new(middleware.Guard), "POST", "{}", sign(t, "{}"), []error{middleware.ErrRefused}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
			r.Header.Set(sigHeader, tt.value)
			d, err := tt.guard.Check(w, r)
			assert.False(t, w.Flushed)
			assert.Empty(t, w.Header())
			assert.Empty(t, w.Body.Bytes())
			if tt.wantErr != nil {
				assert.Nil(t, d)
				for _, want := range tt.wantErr {
					assert.ErrorIs(t, err, want)
				}
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.body, string(d.Body))
			assert.Equal(t, "salesiq", d.Sender)
			again, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			assert.Equal(t, tt.body, string(again))
			assert.EqualValues(t, len(tt.body), r.ContentLength)
			assert.NoError(t, r.Body.Close())
		})
	}
}

// TestCheckOnAServer: a request whose body Check has put back is still one
// that net/http can finish and reuse the connection of.
func TestCheckOnAServer(t *testing.T) {
	guard := &middleware.Guard{Verifier: verifier(t)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := guard.Check(w, r); err != nil {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		io.Copy(w, r.Body)
		fmt.Fprint(w, " from ", r.RemoteAddr)
	}))
	defer srv.Close()
	body := strings.Repeat("z", 100_000)
	_, first := do(t, srv.Client(), post(t, srv.URL, body, sigHeader, sign(t, body)))
	_, second := do(t, srv.Client(), post(t, srv.URL, body, sigHeader, sign(t, body)))
	assert.Equal(t, first, second, "the same body over the same connection")
	assert.True(t, strings.HasPrefix(first, body))
	resp, _ := do(t, srv.Client(), post(t, srv.URL, body, sigHeader, sign(t, "")))
	assert.Equal(t, 403, resp.StatusCode)
}

func TestDefaultLog(t *testing.T) {
	tests := []struct {
		name   string
		method string
		value  string
		next   http.HandlerFunc
		level  string
	}{
		{"accepted", "POST", sign(t, "{}"), func(http.ResponseWriter, *http.Request) {}, "DEBUG"},
		{"failed", "POST", sign(t, "{}"), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "WARN"},
		{"refused", "POST", "sha1=" + strings.Repeat("5", 40), nil, "WARN"},
		{"method", "GET", "", nil, "WARN"},
		{"probe", "HEAD", "", nil, "DEBUG"},
		{"panic", "POST", sign(t, "{}"), func(http.ResponseWriter, *http.Request) { panic("on purpose") }, "ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			before := slog.Default()
			defer slog.SetDefault(before)
			slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
			guard := &middleware.Guard{Verifier: verifier(t), Contract: middleware.SalesIQ()}
			next := tt.next
			if next == nil {
				next = func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }
			}
			r := httptest.NewRequest(tt.method, "/", strings.NewReader("{}"))
			r.Header.Set(sigHeader, tt.value)
			guard.Handler(next).ServeHTTP(httptest.NewRecorder(), r)
			line := out.String()
			assert.Equal(t, 1, strings.Count(line, "\n"), line)
			assert.Contains(t, line, "level="+tt.level)
			assert.Contains(t, line, "sender=salesiq")
			assert.Contains(t, line, "remote=192.0.2.1:1234")
			assert.NotContains(t, line, "{}")
			assert.NotContains(t, line, "5555")
			assert.NotContains(t, line, strings.TrimPrefix(sign(t, "{}"), "sha1="))
			assert.NotContains(t, line, "on purpose")
		})
	}
}

func TestOutcomeString(t *testing.T) {
	seen := make(map[string]bool)
	for o := middleware.Accepted; o.String() != "unknown"; o++ {
		assert.False(t, seen[o.String()], "%d has the string of another", o)
		assert.NotEmpty(t, o.String())
		seen[o.String()] = true
	}
	assert.GreaterOrEqual(t, len(seen), 8)
	assert.Equal(t, "unknown", middleware.Outcome(-1).String())
}

func TestFromContextWithoutAGuard(t *testing.T) {
	d, ok := middleware.FromContext(context.Background())
	assert.Nil(t, d)
	assert.False(t, ok)
}
