package frameworks

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/gin-gonic/gin"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/gofiber/fiber/v3"
	echomiddleware "github.com/labstack/echo/v5/middleware"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
	"github.com/hooktrust/hooktrust/middleware/hooktest"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultWriter, gin.DefaultErrorWriter = io.Discard, io.Discard
	// Most of the tests wait most of the time. -parallel overrides it.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const path = "/hooks/haptik"

var (
	scheme = hmac.Haptik()
	secret = []byte("the secret_key shared with Haptik")
)

// contract is Haptik's with a term of every kind, and a deadline that keeps the
// tests short.
func contract() middleware.Contract {
	return middleware.Contract{
		Sender:      "haptik",
		Deadline:    3 * time.Second,
		Probe:       []string{http.MethodHead},
		MaxResponse: 64 << 10,
		Forbidden:   []int{http.StatusGone},
	}
}

// newGuard returns one that logs nothing.
func newGuard(t *testing.T, c middleware.Contract) *middleware.Guard {
	t.Helper()
	v, err := hmac.New(scheme, secret)
	if err != nil {
		t.Fatal(err)
	}
	return &middleware.Guard{Verifier: v, Contract: c, Observe: func(*http.Request, middleware.Result) {}}
}

func sign(body []byte) (string, error) { return hmac.Sign(scheme, secret, body) }

func signature(t *testing.T, body []byte) string {
	t.Helper()
	value, err := sign(body)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func sender(c middleware.Contract, effects func() int) *hooktest.Sender {
	return &hooktest.Sender{
		Contract: c,
		Header:   scheme.Header,
		Sign:     sign,
		Stranger: func(body []byte) (string, error) { return hmac.Sign(scheme, []byte("another secret_key"), body) },
		Effects:  effects,
	}
}

// receiver makes an http.Handler that has the Guard at path.
type receiver struct {
	name string
	make func(t *testing.T, guard *middleware.Guard, app http.Handler) http.Handler
}

// receivers are the examples as they are.
var receivers = []receiver{
	{"chi", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler { return chiRouter(g, app) }},
	{"gin", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler { return ginEngine(g, app) }},
	{"echo", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler { return echoRouter(g, app) }},
	{"gorilla", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler { return gorillaRouter(g, app) }},
	{"fiber", func(t *testing.T, g *middleware.Guard, app http.Handler) http.Handler {
		return tunnel(serveFiber(t, fiberApp(g, app)))
	}},
	{"lambda", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler {
		return &functionURL{lambdaHandler(g, app), buffered}
	}},
	{"lambda streaming", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler {
		return &functionURL{lambdaStreaming(g, app), streamed}
	}},
}

// wrapped are those whose middleware may wrap the ResponseWriter, with the
// middleware that most use.
var wrapped = []receiver{
	{"chi with middleware", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler {
		logger := chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0), NoColor: true})
		return logger(chimiddleware.Recoverer(chimiddleware.Compress(5)(chiRouter(g, app))))
	}},
	{"gin with middleware", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler {
		r := gin.New()
		r.Use(gin.LoggerWithWriter(io.Discard))
		r.Any(path, gin.WrapH(g.Handler(app)))
		return r
	}},
	{"echo with middleware", func(_ *testing.T, g *middleware.Guard, app http.Handler) http.Handler {
		e := echoRouter(g, app)
		e.Use(echomiddleware.RequestID(), echomiddleware.Recover(), echomiddleware.Secure(), echomiddleware.Gzip())
		return e
	}},
}

// at gives h requests for "/" as requests for path.
func at(path string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := *r.URL
		u.Path = path
		r.URL, r.RequestURI = &u, u.RequestURI()
		h.ServeHTTP(w, r)
	})
}

// serveFiber runs fiber's real server and returns its address.
func serveFiber(t *testing.T, app *fiber.App) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(listener, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		if err := app.ShutdownWithTimeout(5 * time.Second); err != nil {
			t.Error("fiber: ", err)
		}
		if err := <-served; err != nil {
			t.Error("fiber: ", err)
		}
	})
	return listener.Addr().String()
}

// tunnel connects clients to a server at addr: it writes the head of the
// request as it came, and then passes on bytes in both directions. So the
// server sees the body as the client frames and times it.
func tunnel(addr string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var head bytes.Buffer
		fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.Host)
		for _, coding := range r.TransferEncoding {
			fmt.Fprintf(&head, "Transfer-Encoding: %s\r\n", coding)
		}
		for name, values := range r.Header {
			for _, value := range values {
				fmt.Fprintf(&head, "%s: %s\r\n", name, value)
			}
		}
		head.WriteString("\r\n")

		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer client.Close()
		server, err := net.Dial("tcp", addr)
		if err != nil {
			return // the client sees the connection closed
		}
		defer server.Close()
		go func() {
			if _, err := head.WriteTo(server); err == nil {
				_, _ = io.Copy(server, buffered.Reader)
			}
		}()
		_, _ = io.Copy(client, server)
	})
}

// functionURL plays Lambda's function URL before a function. What it does to a
// request is what AWS documents; size and time of the body are its affair and
// not the function's.
type functionURL struct {
	function any
	answer   func(w http.ResponseWriter, payload []byte) error
}

const lambdaLimit = 6 << 20

func (f *functionURL) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
	w.Header().Set("Connection", "close")
	if r.ContentLength > lambdaLimit {
		http.Error(w, "", http.StatusRequestEntityTooLarge)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, lambdaLimit))
	if err != nil {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	payload, err := json.Marshal(lambdaEvent(r, body))
	if err != nil {
		panic(err)
	}
	// A handler of its own for each: a process of Lambda's has one invocation at
	// a time, and a lambda.Handler counts on that.
	answer, err := lambda.NewHandler(f.function).Invoke(r.Context(), payload)
	if err == nil {
		err = f.answer(w, answer)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// lambdaEvent returns what a function is invoked with.
func lambdaEvent(r *http.Request, body []byte) events.LambdaFunctionURLRequest {
	event := events.LambdaFunctionURLRequest{
		Version:        "2.0",
		RawPath:        r.URL.EscapedPath(),
		RawQueryString: r.URL.RawQuery,
		Headers:        map[string]string{"host": r.Host},
		Body:           string(body),
	}
	event.RequestContext.DomainName = "example.lambda-url.eu-central-1.on.aws"
	event.RequestContext.HTTP.Method = r.Method
	event.RequestContext.HTTP.SourceIP = "192.0.2.1"
	for name, values := range r.Header {
		event.Headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	text := r.Header.Get("Content-Type") == "application/json" && r.Header.Get("Content-Encoding") == ""
	if !text || !utf8.Valid(body) {
		event.Body, event.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return event
}

// buffered answers as a function URL in mode BUFFERED does.
func buffered(w http.ResponseWriter, payload []byte) error {
	var resp events.LambdaFunctionURLResponse
	if err := json.Unmarshal(payload, &resp); err != nil {
		return err
	}
	body := []byte(resp.Body)
	if resp.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(resp.Body); err != nil {
			return err
		}
	}
	return write(w, resp.StatusCode, resp.Headers, resp.Cookies, body)
}

// streamed answers as one in mode RESPONSE_STREAM does.
func streamed(w http.ResponseWriter, payload []byte) error {
	prelude, body, ok := bytes.Cut(payload, make([]byte, 8))
	if !ok {
		return fmt.Errorf("no prelude in %q", payload)
	}
	var resp events.LambdaFunctionURLResponse
	if err := json.Unmarshal(prelude, &resp); err != nil {
		return err
	}
	return write(w, resp.StatusCode, resp.Headers, resp.Cookies, body)
}

func write(w http.ResponseWriter, status int, header map[string]string, cookies []string, body []byte) error {
	for name, value := range header {
		w.Header().Set(name, value)
	}
	for _, cookie := range cookies {
		w.Header().Add("Set-Cookie", cookie)
	}
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

// serve runs h on a loopback address.
func serve(t *testing.T, h http.Handler) (base string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return "http://" + listener.Addr().String()
}

// answer is what the sender gets.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	elapsed time.Duration
}

// delivery is what the sender sends.
type delivery struct {
	body       []byte
	signatures []string // nil: the genuine one
	header     http.Header
	chunked    bool
}

// post delivers d to url, on a connection of its own.
func post(t *testing.T, url string, d delivery) (answer, error) {
	t.Helper()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return postWith(t, client, url, d)
}

func postWith(t *testing.T, client *http.Client, url string, d delivery) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var body io.Reader = bytes.NewReader(d.body)
	if d.chunked {
		body = io.MultiReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for name, values := range d.header {
		r.Header[name] = values
	}
	if d.signatures == nil {
		d.signatures = []string{signature(t, d.body)}
	}
	r.Header[textproto.CanonicalMIMEHeaderKey(scheme.Header)] = d.signatures
	start := time.Now()
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: got, elapsed: time.Since(start)}, err
}
