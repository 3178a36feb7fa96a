// Package middleware wraps an [http.Handler] so that it runs only for webhook
// deliveries that verify.
//
//	v, err := hmac.New(hmac.Haptik(), secret)
//	guard := &middleware.Guard{Verifier: v, Contract: middleware.Haptik()}
//	mux.Handle("/hooks/haptik", guard.Handler(app))
package middleware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Verifier decides whether a body was signed by the sender. header is the
// request's. Those of hmac, rsasig and dsasig are Verifiers, and so are the
// *Webhook of the Standard Webhooks and of the Svix library.
//
// Verify must be safe for concurrent use, must keep neither argument, and
// must return an error whenever it is in doubt. Its error goes to Observe, never
// to the client; it should contain no secret, signature or body.
type Verifier interface {
	Verify(body []byte, header http.Header) error
}

// KeyVerifier is a Verifier that also tells which of its keys matched. A Guard
// calls VerifyKey instead of Verify if its Verifier has it.
type KeyVerifier interface {
	Verifier
	VerifyKey(body []byte, header http.Header) (key int, err error)
}

// Errors that Check returns, besides those of the Verifier, which it wraps
// too. Handler answers each with the status named here and its status text.
var (
	ErrProbe    = errors.New("middleware: a probe of the URL, not a delivery")         // 200
	ErrMethod   = errors.New("middleware: the method is neither POST nor a probe's")   // 405
	ErrTooLarge = errors.New("middleware: body too large")                             // 413
	ErrTooSlow  = errors.New("middleware: body did not arrive in time")                // 408
	ErrCutOff   = errors.New("middleware: body ended too early or its framing is bad") // 400
	ErrRefused  = errors.New("middleware: not verified")                               // 401
)

// Guard lets a handler see only what its Verifier accepts. Configure it once
// and do not change it after its first use, as an [http.Server]; keys are
// changed through the Verifier's SetKeys. Its methods may be called
// concurrently, and one Guard may serve several handlers.
type Guard struct {
	// Verifier decides. Required.
	Verifier Verifier

	// Contract is what the sender expects: of the same sender as Verifier's
	// scheme, which nothing checks. The zero value accepts POST only
	// and gives a body 10 s to arrive.
	//
	// Of a contract's terms the Guard keeps Probe, and Deadline for the
	// arrival of the body. It does not enforce MaxResponse, Forbidden and
	// Retries, nor Deadline for the handler.
	Contract Contract

	// MaxBody is the size in bytes of the largest body accepted. 0 means
	// 1 MiB.
	MaxBody int64

	// Observe, if not nil, is told of every request once it is over, in the
	// request's goroutine, and so perhaps after the client has the answer. The request is the one that the Guard was given:
	// its body is consumed, and it is not to be kept. If nil, slog.Default()
	// logs: refusals and a handler's failures at Warn, panics at Error, the
	// rest at Debug.
	Observe func(*http.Request, Result)
}

// Handler returns a handler that runs next for verified deliveries only. It
// panics if g has no Verifier or next is nil.
//
// next gets a request whose Body holds the verified bytes and whose
// ContentLength is their number; FromContext gives it the same bytes as a
// Delivery. Everything else of the request, its URL and other headers, is as
// it came and not signed.
//
// Other requests are answered with the status text alone, the same for every
// way in which a signature can fail: a probe of the contract with 200, other
// methods than POST with 405, a body over MaxBody with 413, one that is not
// there within Contract.Deadline (10 s if that is 0) with 408, one that is cut
// off with 400, and one that does not verify with 401.
//
// Mount it under a pattern without a method: ServeMux answers the methods that
// "POST /path" leaves out, and the sender's probes among them, with 405.
//
// The time limit for the body is a read deadline set on the connection. It is
// never later than that of the server's ReadTimeout, and is lifted when the
// body is there. A ResponseWriter of another server, or of a wrapper without
// an Unwrap method, may not support it; then there is none but the server's.
func (g *Guard) Handler(next http.Handler) http.Handler {
	if g.Verifier == nil {
		panic("middleware: Guard.Handler without a Verifier")
	}
	if next == nil {
		panic("middleware: Guard.Handler of a nil handler")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived := time.Now()
		d, err := g.check(w, r, arrived)
		if err != nil {
			g.refuse(w, r, arrived, err)
			return
		}
		g.accept(w, r, d, next)
	})
}

// Check reads and verifies r and writes nothing, for those who answer
// refusals themselves. Every error means that r must not be trusted; it is, or
// wraps, one of the Err values of this package, and what the Verifier
// returned. It must not be sent to the client.
//
// On success r.Body holds the verified bytes again, r.ContentLength is their
// number, and the Delivery has them too; the request's context does not know
// it. Check limits the time for the body through w, as Handler does. It does not
// call Observe.
func (g *Guard) Check(w http.ResponseWriter, r *http.Request) (*Delivery, error) {
	if g.Verifier == nil {
		return nil, fmt.Errorf("%w: the Guard has no Verifier", ErrRefused)
	}
	d, err := g.check(w, r, time.Now())
	if err != nil {
		return nil, err
	}
	setBody(r, d.Body)
	return d, nil
}

func (g *Guard) check(w http.ResponseWriter, r *http.Request, arrived time.Time) (*Delivery, error) {
	// The server reads what is left of a body even of a request that is
	// refused, so the deadline is for these too.
	hasBody := r.Body != nil && r.Body != http.NoBody
	var control *http.ResponseController
	if hasBody {
		control = http.NewResponseController(w)
		// Not all writers have read deadlines; Handler's comment says so.
		_ = control.SetReadDeadline(g.readDeadline(r, arrived))
	}
	if r.Method != http.MethodPost {
		if slices.Contains(g.Contract.Probe, r.Method) {
			return nil, ErrProbe
		}
		return nil, ErrMethod
	}
	limit := g.MaxBody
	if limit <= 0 {
		limit = defaultMaxBody
	}
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: Content-Length is %d, and MaxBody %d", ErrTooLarge, r.ContentLength, limit)
	}
	body := []byte{}
	if hasBody {
		var err error
		body, err = readAll(r.Body, limit)
		if err != nil {
			return nil, bodyError(err)
		}
		_ = control.SetReadDeadline(time.Time{})
	}
	key, err := g.verify(body, r.Header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return &Delivery{
		Sender:     g.Contract.Sender,
		Body:       body,
		Header:     r.Header.Clone(),
		Key:        key,
		ReceivedAt: arrived,
	}, nil
}

// readDeadline returns when r's body must be there.
func (g *Guard) readDeadline(r *http.Request, arrived time.Time) time.Time {
	limit := g.Contract.Deadline
	if limit <= 0 {
		limit = defaultBodyTime
	}
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && s.ReadTimeout > 0 {
		limit = min(limit, s.ReadTimeout)
	}
	return arrived.Add(limit)
}

func (g *Guard) verify(body []byte, header http.Header) (key int, err error) {
	if v, ok := g.Verifier.(KeyVerifier); ok {
		return v.VerifyKey(body, header)
	}
	return -1, g.Verifier.Verify(body, header)
}

// accept runs next and tells Observe, also when next panics.
func (g *Guard) accept(w http.ResponseWriter, r *http.Request, d *Delivery, next http.Handler) {
	verified := r.WithContext(context.WithValue(r.Context(), deliveryKey{}, d))
	setBody(verified, d.Body)
	rec := &recorder{ResponseWriter: w}
	res := Result{
		Outcome: Panicked,
		Sender:  d.Sender,
		Key:     d.Key,
		Size:    len(d.Body),
		Err:     errPanicked,
	}
	defer func() {
		res.Elapsed = time.Since(d.ReceivedAt)
		g.observe(r, res)
	}()
	defer func() { res.Status = rec.status }()
	next.ServeHTTP(rec, verified)
	if rec.status == 0 {
		rec.status = http.StatusOK // net/http sends it for a handler that sends nothing
	}
	res.Outcome, res.Err = Accepted, nil
}

var errPanicked = errors.New("middleware: the handler panicked; the server's log has the stack")

// refuse answers a request that Check has refused with err.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, arrived time.Time, err error) {
	res := Result{Sender: g.Contract.Sender, Key: -1, Err: err}
	res.Outcome, res.Status = judge(err)
	if res.Outcome != Refused && r.ContentLength != 0 && r.ProtoMajor == 1 {
		// The body has not been read to its end. Without this the server
		// would wait for the rest of it before it answers.
		w.Header().Set("Connection", "close")
	}
	switch res.Outcome {
	case Probed:
		res.Err = nil
		w.WriteHeader(http.StatusOK)
	case BadMethod:
		w.Header().Set("Allow", strings.Join(append([]string{http.MethodPost}, g.Contract.Probe...), ", "))
		fallthrough
	default:
		http.Error(w, http.StatusText(res.Status), res.Status)
	}
	res.Elapsed = time.Since(arrived)
	g.observe(r, res)
}

// judge returns what an error of Check means to the client.
func judge(err error) (Outcome, int) {
	switch {
	case errors.Is(err, ErrRefused): // first: what else it wraps is the Verifier's choice
		return Refused, http.StatusUnauthorized
	case errors.Is(err, ErrProbe):
		return Probed, http.StatusOK
	case errors.Is(err, ErrMethod):
		return BadMethod, http.StatusMethodNotAllowed
	case errors.Is(err, ErrTooLarge):
		return TooLarge, http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrTooSlow):
		return TooSlow, http.StatusRequestTimeout
	case errors.Is(err, ErrCutOff):
		return CutOff, http.StatusBadRequest
	}
	return Refused, http.StatusUnauthorized
}

func (g *Guard) observe(r *http.Request, res Result) {
	if g.Observe != nil {
		g.Observe(r, res)
		return
	}
	logResult(r, res)
}

// setBody gives r the verified bytes as its body.
func setBody(r *http.Request, body []byte) {
	r.Body = &verifiedBody{*bytes.NewReader(body)}
	r.ContentLength = int64(len(body))
	r.TransferEncoding = nil
}

type verifiedBody struct{ bytes.Reader }

func (*verifiedBody) Close() error { return nil }

// recorder remembers the status of an answer that passes through it.
type recorder struct {
	http.ResponseWriter
	status int
}

func (rec *recorder) WriteHeader(status int) {
	// 1xx are not the answer yet, except for the last of them.
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher] for handlers that ask for it by assertion.
func (rec *recorder) Flush() {
	if http.NewResponseController(rec.ResponseWriter).Flush() == nil && rec.status == 0 {
		rec.status = http.StatusOK
	}
}

// Unwrap lets [http.ResponseController] reach the server's writer.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }
