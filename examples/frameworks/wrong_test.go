package frameworks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gorilla/mux"
	"github.com/labstack/echo/v5"
	echomiddleware "github.com/labstack/echo/v5/middleware"

	"github.com/hooktrust/hooktrust/middleware"
)

// The tests in this file are of setups that the examples warn of. They fail
// when a framework no longer does what its file says.

type event struct {
	Name string `json:"event_name"`
}

var small = []byte(`{ "event_name": "x" }`)

// counted returns a handler that counts.
func counted(n *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1) })
}

// What reads or changes the body before the Guard makes genuine deliveries
// fail, and never one that is not genuine succeed.
func TestBodyReadBefore(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, h http.Handler) http.Handler // serves h, a Guard's, at path
		d    delivery
		want int
	}{
		{
			name: "chi, a decoder",
			make: func(t *testing.T, h http.Handler) http.Handler {
				r := chi.NewRouter()
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if err := json.NewDecoder(r.Body).Decode(new(event)); err != nil {
							t.Error(err)
						}
						next.ServeHTTP(w, r)
					})
				})
				r.Handle(path, h)
				return r
			},
			want: http.StatusUnauthorized,
		},
		{
			name: "gorilla, a decoder that puts back what it has encoded",
			make: func(t *testing.T, h http.Handler) http.Handler {
				r := mux.NewRouter()
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						var e event
						if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
							t.Error(err)
						}
						b, _ := json.Marshal(e)
						r.Body = io.NopCloser(bytes.NewReader(b))
						next.ServeHTTP(w, r)
					})
				})
				r.Handle(path, h)
				return r
			},
			want: http.StatusUnauthorized,
		},
		{
			name: "gin, ShouldBindJSON",
			make: func(t *testing.T, h http.Handler) http.Handler {
				r := gin.New()
				r.Any(path, func(c *gin.Context) {
					if err := c.ShouldBindJSON(new(event)); err != nil {
						t.Error(err)
					}
				}, gin.WrapH(h))
				return r
			},
			want: http.StatusUnauthorized,
		},
		{
			name: "gin, ShouldBindBodyWithJSON",
			make: func(t *testing.T, h http.Handler) http.Handler {
				r := gin.New()
				r.Any(path, func(c *gin.Context) {
					if err := c.ShouldBindBodyWithJSON(new(event)); err != nil {
						t.Error(err)
					}
				}, gin.WrapH(h))
				return r
			},
			want: http.StatusUnauthorized,
		},
		{
			name: "echo, Bind",
			make: func(t *testing.T, h http.Handler) http.Handler {
				e := echo.New()
				e.Any(path, func(c *echo.Context) error {
					if err := c.Bind(new(event)); err != nil {
						t.Error(err)
					}
					return echo.WrapHandler(h)(c)
				})
				return e
			},
			want: http.StatusUnauthorized,
		},
		{
			name: "echo, Decompress",
			make: func(t *testing.T, h http.Handler) http.Handler {
				e := echo.New()
				e.Use(echomiddleware.Decompress())
				e.Any(path, echo.WrapHandler(h))
				return e
			},
			d:    delivery{body: gzipped(t, small), header: http.Header{"Content-Encoding": {"gzip"}}},
			want: http.StatusUnauthorized,
		},
		{
			name: "echo, BodyLimit, a body that says its size",
			make: limitedEcho,
			want: http.StatusRequestEntityTooLarge,
		},
		{
			name: "echo, BodyLimit, a chunked body",
			make: limitedEcho,
			d:    delivery{body: small, chunked: true},
			want: http.StatusBadRequest,
		},
		{
			name: "chi, RequestSize, a chunked body",
			make: func(t *testing.T, h http.Handler) http.Handler {
				r := chi.NewRouter()
				r.Use(chimiddleware.RequestSize(10))
				r.Handle(path, h)
				return r
			},
			d:    delivery{body: small, chunked: true},
			want: http.StatusRequestEntityTooLarge,
		},
		{
			name: "fiber, Body and Bind, which do no harm",
			make: func(t *testing.T, h http.Handler) http.Handler {
				f := fiber.New()
				f.All(path, func(c fiber.Ctx) error {
					if err := c.Bind().Body(new(event)); err != nil {
						t.Error(err)
					}
					if !bytes.Equal(c.Body(), small) {
						t.Errorf("body %q", c.Body())
					}
					return c.Next()
				}, adaptor.HTTPHandler(ownRequest(h)))
				return tunnel(serveFiber(t, f))
			},
			want: http.StatusOK,
		},
		{
			name: "fiber, a body that is set",
			make: func(t *testing.T, h http.Handler) http.Handler {
				f := fiber.New()
				f.All(path, func(c fiber.Ctx) error {
					c.Request().SetBody(bytes.TrimSpace(append(c.Body(), '\n', '{', '}')))
					return c.Next()
				}, adaptor.HTTPHandler(ownRequest(h)))
				return tunnel(serveFiber(t, f))
			},
			want: http.StatusUnauthorized,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var runs atomic.Int64
			h := test.make(t, newGuard(t, contract()).Handler(counted(&runs)))
			if test.d.body == nil {
				test.d.body = small
			}
			a, err := post(t, serve(t, h)+path, test.d)
			if err != nil || a.status != test.want {
				t.Errorf("a genuine delivery is answered %d, error %v; expected %d", a.status, err, test.want)
			}
			if ran := runs.Load() > 0; ran != (test.want == http.StatusOK) {
				t.Errorf("the handler ran: %v", ran)
			}
		})
	}
}

func limitedEcho(_ *testing.T, h http.Handler) http.Handler {
	e := echo.New()
	e.Use(echomiddleware.BodyLimit(10))
	e.Any(path, echo.WrapHandler(h))
	return e
}

// endless is a body, and counts what is read of it.
type endless struct{ left, read int64 }

func (b *endless) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), b.left)
	b.left -= n
	b.read += n
	return int(n), nil
}

// echo's BodyDump reads all of what the Guard would not have.
func TestEchoBodyDumpReadsAll(t *testing.T) {
	t.Parallel()
	const size = 32 << 20
	for _, test := range []struct {
		name string
		use  []echo.MiddlewareFunc
		all  bool
	}{
		{"without BodyDump", nil, false},
		{"with BodyDump", []echo.MiddlewareFunc{echomiddleware.BodyDump(func(*echo.Context, []byte, []byte, error) {})}, true},
	} {
		e := echoRouter(newGuard(t, contract()), http.NotFoundHandler())
		e.Use(test.use...)
		body := &endless{left: size}
		r := httptest.NewRequest(http.MethodPost, path, body) // unsigned
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if all := body.read == size; all != test.all {
			t.Errorf("%s: %d of %d bytes were read", test.name, body.read, size)
		}
		if w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: answered %d; expected 413", test.name, w.Code)
		}
	}
}

// A route for POST alone does not answer the sender's probes.
func TestProbeNeedsEveryMethod(t *testing.T) {
	g := newGuard(t, contract())
	h := g.Handler(http.NotFoundHandler())
	postOnly := map[string]http.Handler{}
	c := chi.NewRouter()
	c.Post(path, h.ServeHTTP)
	postOnly["chi"] = c
	n := gin.New()
	n.POST(path, gin.WrapH(h))
	postOnly["gin"] = n
	e := echo.New()
	e.POST(path, echo.WrapHandler(h))
	postOnly["echo"] = e
	m := mux.NewRouter()
	m.Handle(path, h).Methods(http.MethodPost)
	postOnly["gorilla"] = m
	f := fiber.New()
	f.Post(path, adaptor.HTTPHandler(ownRequest(h)))
	postOnly["fiber"] = tunnel(serveFiber(t, f))

	for name, h := range postOnly {
		resp, err := http.Head(serve(t, h) + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := http.StatusMethodNotAllowed
		if name == "gin" {
			want = http.StatusNotFound
		}
		if resp.StatusCode != want {
			t.Errorf("%s: a probe of a route for POST is answered %d; expected %d", name, resp.StatusCode, want)
		}
	}
}

// What becomes of a delivery to a path that is nearly the route's.
func TestPathSpelling(t *testing.T) {
	t.Parallel()
	want := map[string][2]int{ // of path + "/", and of "/" + path
		"chi":              {http.StatusNotFound, http.StatusNotFound},
		"gin":              {http.StatusTemporaryRedirect, http.StatusNotFound},
		"echo":             {http.StatusNotFound, http.StatusNotFound},
		"gorilla":          {http.StatusNotFound, http.StatusMovedPermanently},
		"fiber":            {http.StatusOK, http.StatusNotFound},
		"lambda":           {http.StatusOK, http.StatusOK}, // there is no router
		"lambda streaming": {http.StatusOK, http.StatusOK},
	}
	for _, rc := range receivers {
		base := serve(t, rc.make(t, newGuard(t, contract()), counted(new(atomic.Int64))))
		for i, spelling := range []string{path + "/", "/" + path} {
			a, err := post(t, base+spelling, delivery{body: small})
			if err != nil || a.status != want[rc.name][i] {
				t.Errorf("%s: a delivery to %s is answered %d, error %v; expected %d", rc.name, spelling, a.status, err, want[rc.name][i])
			}
		}
	}
}

// chi's Timeout does not end the handler's context, and turns the 200 of a
// handler that has written nothing into 504, though it is done.
func TestChiTimeout(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		write bool
		want  int
	}{
		{"a handler that has written nothing", false, http.StatusGatewayTimeout},
		{"a handler that has written its status", true, http.StatusOK},
	} {
		var outer context.Context // as Timeout has it
		app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-outer.Done()
			if r.Context().Err() != nil {
				t.Errorf("%s: Timeout has ended its context", test.name)
			}
			if test.write {
				w.WriteHeader(http.StatusOK)
			}
		})
		guarded := newGuard(t, contract()).Handler(app)
		r := chi.NewRouter()
		r.Use(chimiddleware.Timeout(50 * time.Millisecond))
		r.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			outer = r.Context()
			guarded.ServeHTTP(w, r)
		})
		a, err := post(t, serve(t, r)+path, delivery{body: small})
		if err != nil || a.status != test.want {
			t.Errorf("%s: answered %d, error %v; expected %d", test.name, a.status, err, test.want)
		}
	}
}

// A handler that ends the connection: what the sender sees.
func TestAbort(t *testing.T) {
	abort := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	panics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") })
	recoveringGin := func(g *middleware.Guard, app http.Handler) http.Handler {
		r := gin.Default()
		r.Any(path, gin.WrapH(g.Handler(app)))
		return r
	}
	recoveringEcho := func(g *middleware.Guard, app http.Handler) http.Handler {
		e := echoRouter(g, app)
		e.Use(echomiddleware.Recover())
		return e
	}
	const closed = 0
	for _, test := range []struct {
		name string
		make func(g *middleware.Guard, app http.Handler) http.Handler
		want int
	}{
		{"chi", func(g *middleware.Guard, app http.Handler) http.Handler { return chiRouter(g, app) }, closed},
		{"chi, Recoverer", func(g *middleware.Guard, app http.Handler) http.Handler {
			return chimiddleware.Recoverer(chiRouter(g, app))
		}, closed},
		{"gin", func(g *middleware.Guard, app http.Handler) http.Handler { return ginEngine(g, app) }, closed},
		{"gin, Recovery", recoveringGin, http.StatusOK}, // wrong, and gin's
		{"echo", func(g *middleware.Guard, app http.Handler) http.Handler { return echoRouter(g, app) }, closed},
		{"echo, Recover", recoveringEcho, closed},
		{"gorilla", func(g *middleware.Guard, app http.Handler) http.Handler { return gorillaRouter(g, app) }, closed},
		{"fiber", func(g *middleware.Guard, app http.Handler) http.Handler {
			return tunnel(serveFiber(t, fiberApp(g, app)))
		}, http.StatusInternalServerError},
	} {
		a, err := post(t, serve(t, test.make(newGuard(t, contract()), abort))+path, delivery{body: small})
		if a.status != test.want || (test.want == closed) != (err != nil) {
			t.Errorf("%s: answered %d, error %v; expected %d", test.name, a.status, err, test.want)
		}
		a, err = post(t, serve(t, test.make(newGuard(t, contract()), panics))+path, delivery{body: small})
		if err != nil || a.status != http.StatusInternalServerError {
			t.Errorf("%s: another panic is answered %d, error %v; expected 500", test.name, a.status, err)
		}
	}
}

// bareFiber is what fiberApp would be without what stands in for losses.
func bareFiber(g *middleware.Guard, app http.Handler, config fiber.Config) *fiber.App {
	f := fiber.New(config)
	f.All(path, adaptor.HTTPHandler(g.Handler(app)))
	return f
}

// With fasthttp 1.69 the adaptor shows the Guard the last of two signatures
// only. With ownRequest it shows both, and they are refused.
func TestFiberDuplicates(t *testing.T) {
	t.Parallel()
	genuine, wrong := signature(t, small), signature(t, []byte("another body"))
	for _, test := range []struct {
		name       string
		make       func(*middleware.Guard, http.Handler) *fiber.App
		signatures []string
		want       int
	}{
		{"bare, the last is genuine", func(g *middleware.Guard, app http.Handler) *fiber.App { return bareFiber(g, app, fiber.Config{}) }, []string{wrong, genuine}, http.StatusOK},
		{"bare, the first is genuine", func(g *middleware.Guard, app http.Handler) *fiber.App { return bareFiber(g, app, fiber.Config{}) }, []string{genuine, wrong}, http.StatusUnauthorized},
		{"own, the last is genuine", fiberApp, []string{wrong, genuine}, http.StatusUnauthorized},
		{"own, the first is genuine", fiberApp, []string{genuine, wrong}, http.StatusUnauthorized},
		{"own, both are genuine", fiberApp, []string{genuine, genuine}, http.StatusUnauthorized},
	} {
		addr := serveFiber(t, test.make(newGuard(t, contract()), counted(new(atomic.Int64))))
		a, err := post(t, "http://"+addr+path, delivery{body: small, signatures: test.signatures})
		if err != nil || a.status != test.want {
			t.Errorf("%s: answered %d, error %v; expected %d", test.name, a.status, err, test.want)
		}
	}
}

// The header of the adaptor's request, and of a Delivery made of it, is
// overwritten by the next request on the connection.
func TestFiberRequestIsReused(t *testing.T) {
	t.Parallel()
	first, second := []byte(`{"n":1}`), []byte(`{"n":2}`)
	for _, test := range []struct {
		name string
		make func(*middleware.Guard, http.Handler) *fiber.App
		want string
	}{
		{"bare", func(g *middleware.Guard, app http.Handler) *fiber.App { return bareFiber(g, app, fiber.Config{}) }, signature(t, second)},
		{"own", fiberApp, signature(t, first)},
	} {
		// What a queue in memory does: it keeps the delivery.
		kept := make(chan *middleware.Delivery, 2)
		put := func(_ context.Context, d *middleware.Delivery) error {
			kept <- d
			return nil
		}
		addr := serveFiber(t, test.make(newGuard(t, contract()), middleware.Ack(put)))
		client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
		defer client.CloseIdleConnections()
		for _, body := range [][]byte{first, second} {
			if a, err := postWith(t, client, "http://"+addr+path, delivery{body: body}); err != nil || a.status != http.StatusOK {
				t.Fatalf("%s: answered %d, error %v", test.name, a.status, err)
			}
		}
		d := <-kept
		<-kept // the second has arrived
		if got := d.Header.Get(scheme.Header); got != test.want {
			t.Errorf("%s: the header of the first delivery is %q; expected %q", test.name, got, test.want)
		}
		if !bytes.Equal(d.Body, first) {
			t.Errorf("%s: the body of the first delivery is %q", test.name, d.Body)
		}
	}
}

// feed sends the head of a chunked delivery and then a piece of the body after
// every pause, limit bytes in all. It returns the status of the answer, or 0 if
// there is none within patience.
func feed(t *testing.T, addr string, piece, limit int, pause, patience time.Duration) (status int) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() {
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", path)
		chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", piece, bytes.Repeat([]byte{' '}, piece))
		for n := 0; n < limit && err == nil; n += piece {
			_, err = conn.Write(chunk)
			time.Sleep(pause)
		}
		if err == nil {
			_, _ = conn.Write([]byte("0\r\n\r\n"))
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0
	case err != nil:
		t.Logf("no answer: %v", err)
		return -1
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A body that trickles in is cut off, unless something is between the Guard and
// the connection: fiber, which then needs a ReadTimeout, or a wrapper without
// Unwrap.
func TestTricklingBody(t *testing.T) {
	c := contract()
	c.Deadline = 500 * time.Millisecond
	g := newGuard(t, c)
	app := http.NotFoundHandler()
	address := func(h http.Handler) string { return strings.TrimPrefix(serve(t, h), "http://") }
	for _, test := range []struct {
		name string
		addr string
		want int
	}{
		{"gorilla", address(gorillaRouter(g, app)), http.StatusRequestTimeout},
		{"gorilla in a TimeoutHandler", address(http.TimeoutHandler(gorillaRouter(g, app), time.Minute, "")), 0},
		{"fiber", serveFiber(t, fiberApp(g, app)), http.StatusRequestTimeout},
		{"fiber without ReadTimeout", serveFiber(t, bareFiber(g, app, fiber.Config{})), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if status := feed(t, test.addr, 1, 1<<20, 50*time.Millisecond, 3*time.Second); status != test.want {
				t.Errorf("answered %d; expected %d", status, test.want)
			}
		})
	}
}

// With StreamRequestBody the adaptor reads all of a body of any size.
func TestFiberStreamRequestBody(t *testing.T) {
	t.Parallel()
	g := newGuard(t, contract())
	for _, test := range []struct {
		name   string
		stream bool
		reads  int // bytes of the body at least
	}{
		{"whole", false, 0},
		{"streamed", true, 32 << 20},
	} {
		var length atomic.Int64
		f := fiber.New(fiber.Config{StreamRequestBody: test.stream, BodyLimit: 1 << 20})
		f.All(path, adaptor.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			length.Store(r.ContentLength)
			ownRequest(g.Handler(http.NotFoundHandler())).ServeHTTP(w, r)
		})))
		status := feed(t, serveFiber(t, f), 1<<20, 32<<20, 0, 10*time.Second)
		if int(length.Load()) != test.reads {
			t.Errorf("%s: %d bytes were read before the Guard, and answered %d; expected %d", test.name, length.Load(), status, test.reads)
		}
	}
}

// fasthttp's ReadBufferSize limits a request's header.
func TestFiberLargeHeader(t *testing.T) {
	t.Parallel()
	g := newGuard(t, contract())
	large := http.Header{"X-Large": {strings.Repeat("x", 8<<10)}}
	for _, test := range []struct {
		name string
		app  *fiber.App
		want int
	}{
		{"fiber's default", bareFiber(g, counted(new(atomic.Int64)), fiber.Config{}), http.StatusRequestHeaderFieldsTooLarge},
		{"own", fiberApp(g, counted(new(atomic.Int64))), http.StatusOK},
	} {
		a, err := post(t, "http://"+serveFiber(t, test.app)+path, delivery{body: small, header: large})
		if err != nil || a.status != test.want {
			t.Errorf("%s: answered %d, error %v; expected %d", test.name, a.status, err, test.want)
		}
	}
}

// invoke invokes a function as Lambda does.
func invoke(t *testing.T, h lambda.Handler, event any) events.LambdaFunctionURLResponse {
	t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := h.Invoke(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	var resp events.LambdaFunctionURLResponse
	if err := json.Unmarshal(answer, &resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

func lambdaDelivery(t *testing.T, body []byte) events.LambdaFunctionURLRequest {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.Header.Set(scheme.Header, signature(t, body))
	return lambdaEvent(r, body)
}

// What cannot be, or is not, in the event as it was on the wire is refused.
func TestLambdaEvents(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	h := lambda.NewHandler(lambdaHandler(newGuard(t, contract()), counted(&runs)))
	name := strings.ToLower(scheme.Header)
	for _, test := range []struct {
		name   string
		body   []byte
		change func(*events.LambdaFunctionURLRequest)
		want   int
	}{
		{"as it came", everyByte, func(*events.LambdaFunctionURLRequest) {}, http.StatusOK},
		{"text", small, func(e *events.LambdaFunctionURLRequest) { e.Body, e.IsBase64Encoded = string(small), false }, http.StatusOK},
		{"text that is not UTF-8", everyByte, func(e *events.LambdaFunctionURLRequest) { e.Body, e.IsBase64Encoded = string(everyByte), false }, http.StatusUnauthorized},
		{"Base64 that does not say so", small, func(e *events.LambdaFunctionURLRequest) { e.IsBase64Encoded = false }, http.StatusUnauthorized},
		{"Base64 cut off", small, func(e *events.LambdaFunctionURLRequest) { e.Body = e.Body[:len(e.Body)-1] }, http.StatusBadRequest},
		{"no path", small, func(e *events.LambdaFunctionURLRequest) { e.RawPath = "" }, http.StatusOK},
		{"a bad path", small, func(e *events.LambdaFunctionURLRequest) { e.RawPath = "/%zz" }, http.StatusBadRequest},
		{"two signatures joined", small, func(e *events.LambdaFunctionURLRequest) { e.Headers[name] += "," + e.Headers[name] }, http.StatusUnauthorized},
		{"no signature", small, func(e *events.LambdaFunctionURLRequest) { delete(e.Headers, name) }, http.StatusUnauthorized},
	} {
		before := runs.Load()
		event := lambdaDelivery(t, test.body)
		test.change(&event)
		if resp := invoke(t, h, event); resp.StatusCode != test.want {
			t.Errorf("%s: answered %d; expected %d", test.name, resp.StatusCode, test.want)
		}
		if ran := runs.Load() > before; ran != (test.want == http.StatusOK) {
			t.Errorf("%s: the handler ran: %v", test.name, ran)
		}
	}
	if resp := invoke(t, h, struct{}{}); resp.StatusCode == http.StatusOK {
		t.Error("an event without anything is answered 200")
	}
}

// On Lambda a handler that is not done must not be answered for with 200: a
// Late that answers 503 makes the sender deliver again.
func TestLambdaLate(t *testing.T) {
	t.Parallel()
	c := contract()
	c.Deadline = 400 * time.Millisecond
	release := make(chan struct{})
	app := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
	for _, test := range []struct {
		name string
		app  http.Handler
		late http.Handler
		want int
	}{
		{"as the Guard does", app, nil, http.StatusOK},
		{"with a Late", app, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "", http.StatusServiceUnavailable)
		}), http.StatusServiceUnavailable},
		{"Ack", middleware.Ack(func(context.Context, *middleware.Delivery) error { <-release; return nil }), nil, http.StatusServiceUnavailable},
	} {
		guard := newGuard(t, c)
		guard.Late = test.late
		resp := invoke(t, lambda.NewHandler(lambdaHandler(guard, test.app)), lambdaDelivery(t, small))
		if resp.StatusCode != test.want {
			t.Errorf("%s: answered %d; expected %d", test.name, resp.StatusCode, test.want)
		}
	}
	close(release)
}
