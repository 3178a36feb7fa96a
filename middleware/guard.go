// Package middleware wraps an [http.Handler] so that it runs only for webhook
// deliveries that verify, and so that the sender has its answer in time.
//
//	v, err := hmac.New(hmac.Haptik(), secret)
//	guard := &middleware.Guard{Verifier: v, Contract: middleware.Haptik()}
//	mux.Handle("/hooks/haptik", guard.Handler(app))                       // answered within 5 s
//	mux.Handle("/hooks/haptik", guard.Handler(middleware.Ack(pool.Put)))  // acknowledged at once, worked on afterwards
//	mux.Handle("/hooks/haptik", guard.Handler(middleware.Ack(queue.Put))) // acknowledged once a durable queue has it
//
// The three differ in what becomes of a delivery that was answered with 2xx if
// the process is killed. What a handler has done before it answered is done.
// But a delivery that the Guard has answered for at the deadline, or that waits
// in a Pool, exists in memory only: it is lost, and the sender does not send it
// again. Only Ack with a queue that has written it to disk before its Put
// returns keeps it.
package middleware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
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
// concurrently, and one Guard may serve several handlers. A test on the clock
// of testing/synctest may use, but not shut down, a Guard that others use too.
type Guard struct {
	// Verifier decides. Required.
	Verifier Verifier

	// Contract is what the sender expects: of the same sender as Verifier's
	// scheme, which nothing checks. The zero value accepts POST only, gives a
	// body 10 s to arrive, and the handler as long as it takes.
	Contract Contract

	// MaxBody is the size in bytes of the largest body accepted. 0 means
	// 1 MiB.
	MaxBody int64

	// Late answers in place of a handler that is not done when the answer is
	// due: a chat bot says that it is still thinking. It gets the request
	// with the Delivery in its context and must answer at once. If nil, the
	// answer is 200 with an empty body. One that answers 503 makes the sender
	// come again, for handlers that must not go on after their answer. Late
	// does not answer for Ack.
	Late http.Handler

	// MaxLate is how many handlers may outlive their answer at one time. 0
	// means 1000. Beyond it the answer at the deadline is 503: what cannot be
	// carried is not acknowledged.
	MaxLate int

	// Store, if not nil, remembers deliveries, so that a retry of one that
	// was worked on is answered with 200 and does not run the handler again,
	// and one of a delivery whose handler still runs is answered with 503. A
	// delivery is worked on when its handler has answered 2xx: with Ack when it
	// is kept, whatever becomes of it then. Two deliveries of equal bytes are
	// one to it: leave it nil where a sender may mean both, as a chat's does
	// whose visitor says "yes" twice. If the Store fails, the handler runs, and
	// Observe is told.
	Store Store

	// Observe, if not nil, is told of every request once it is over, perhaps
	// after the client has the answer; if its handler outlives the answer,
	// once when it is answered and then, with Result.Afterwards, once more
	// when the handler ends. It may be called concurrently, and should return
	// soon. The request's body is consumed, and its context is that with which
	// it came to the Guard: it has no Delivery. If Observe is nil,
	// slog.Default() logs: refusals, late answers and a handler's failures at
	// Warn, panics at Error, the rest at Debug.
	Observe func(*http.Request, Result)

	mu      sync.Mutex
	clock   *clock              // the real one; nil before the first request
	bubbled map[*clock]struct{} // of requests in bubbles of testing/synctest, each its own
	running int                 // requests with a handler that has not ended
	late    int                 // handlers that have outlived a 2xx
	closed  bool                // Shutdown was called
	idle    chan struct{}       // closed when closed and running is 0
}

// Handler returns a handler that runs next for verified deliveries only, and
// answers in the contract's time. It panics if g has no Verifier or next is
// nil.
//
// next gets a request whose Body holds the verified bytes and whose
// ContentLength is their number; FromContext gives it the same bytes as a
// Delivery. Everything else of the request, its URL, other headers and the
// values of its context, is as it came to the Guard, and not signed.
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
// If the contract has a Deadline, next's answer is held back until next
// returns, and then passed on as it is: there is no streaming. If next is not
// done when the answer must leave, which is a second before the deadline or,
// for deadlines under 4 s, when three quarters of it are over, then Late
// answers, and next goes on:
//   - its context ends neither with the answer nor when the client hangs up,
//     only when Shutdown gives up;
//   - what it writes is discarded;
//   - the sender's next delivery does not wait for it: the answer closes an
//     HTTP/1 connection and ends an HTTP/2 stream.
//
// Such an answer is a promise kept in memory: if the process is killed, the
// delivery is lost. See Ack for one that is kept.
//
// A status that the contract forbids leaves as 500, and so does an answer of
// more than MaxResponse bytes. A panic of next is recovered, told to Observe
// and answered with 500; [http.ErrAbortHandler] is passed on, and ends the
// connection unless somebody before the Guard recovers it.
//
// The request must outlive its answer, as net/http's does: its header, URL and
// context are looked at later. fasthttp's, behind an adaptor, is overwritten by
// the next one; examples/frameworks has what to do there.
//
// The server's WriteTimeout must be longer than the deadline, or the answer
// finds the connection closed.
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
		body, key, err := g.check(w, r, arrived)
		if err != nil {
			g.refuse(w, r, arrived, err)
			return
		}
		g.accept(w, r, body, key, arrived, next)
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
// call Observe, and nobody answers at the deadline.
func (g *Guard) Check(w http.ResponseWriter, r *http.Request) (*Delivery, error) {
	if g.Verifier == nil {
		return nil, fmt.Errorf("%w: the Guard has no Verifier", ErrRefused)
	}
	arrived := time.Now()
	body, key, err := g.check(w, r, arrived)
	if err != nil {
		return nil, err
	}
	setBody(r, (*verifiedBody)(bytes.NewReader(body)), len(body))
	return g.delivery(body, r.Header, key, arrived), nil
}

func (g *Guard) check(w http.ResponseWriter, r *http.Request, arrived time.Time) (body []byte, key int, err error) {
	// The server reads what is left of a body even of a request that is
	// refused, so the deadline is for these too.
	hasBody := r.Body != nil && r.Body != http.NoBody
	if hasBody {
		setReadDeadline(w, g.readDeadline(r, arrived))
	}
	if r.Method != http.MethodPost {
		if slices.Contains(g.Contract.Probe, r.Method) {
			return nil, -1, ErrProbe
		}
		return nil, -1, ErrMethod
	}
	limit := g.MaxBody
	if limit <= 0 {
		limit = defaultMaxBody
	}
	if r.ContentLength > limit {
		return nil, -1, fmt.Errorf("%w: Content-Length is %d, and MaxBody %d", ErrTooLarge, r.ContentLength, limit)
	}
	body = []byte{}
	if hasBody {
		if body, err = readAll(r.Body, limit); err != nil {
			return nil, -1, bodyError(err)
		}
		setReadDeadline(w, time.Time{})
	}
	if key, err = g.verify(body, r.Header); err != nil {
		return nil, -1, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return body, key, nil
}

// setReadDeadline does what an [http.ResponseController] would, without
// allocating an error where w has no read deadline. Handler's comment says what
// follows from that.
func setReadDeadline(w http.ResponseWriter, t time.Time) {
	for {
		switch v := w.(type) {
		case interface{ SetReadDeadline(time.Time) error }:
			_ = v.SetReadDeadline(t)
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return
		}
	}
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

// accept runs next for the verified body of r.
func (g *Guard) accept(w http.ResponseWriter, r *http.Request, body []byte, key int, arrived time.Time, next http.Handler) {
	k, ok := g.enter(arrived)
	if !ok {
		c := &received{guard: g, request: r, body: body, key: key, at: arrived}
		res := c.result(Overloaded, errClosed)
		res.Status = g.Contract.allowed(http.StatusServiceUnavailable)
		http.Error(w, http.StatusText(res.Status), res.Status)
		c.tell(r, res)
		return
	}
	if g.Contract.Deadline <= 0 && g.Contract.MaxResponse <= 0 && len(g.Contract.Forbidden) == 0 && g.Store == nil {
		c := new(stream)
		c.guard, c.clock, c.request, c.body, c.key, c.at = g, k, r, body, key, arrived
		c.ResponseWriter = w
		c.serve(next)
		return
	}
	c := new(run)
	c.guard, c.clock, c.request, c.body, c.key, c.at = g, k, r, body, key, arrived
	c.answer.w, c.answer.mu, c.answer.limit = w, &c.answering, g.Contract.MaxResponse
	if g.Contract.Deadline > 0 {
		c.answerBy = arrived.Add(answerAfter(g.Contract.Deadline))
	}
	c.serve(next)
}

// enter counts in the handler of a request that arrived at a time which
// time.Now has told, unless the Guard is shut down.
func (g *Guard) enter(arrived time.Time) (k *clock, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false
	}
	g.running++
	if !isReal(arrived) {
		k = newClock()
		if g.bubbled == nil {
			g.bubbled = make(map[*clock]struct{})
		}
		g.bubbled[k] = struct{}{}
		return k, true
	}
	if g.clock == nil {
		g.clock = newClock()
	}
	return g.clock, true
}

// leave counts it out.
func (g *Guard) leave(k *clock) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if k != g.clock {
		delete(g.bubbled, k)
	}
	if g.closed && g.running == 0 {
		close(g.idle)
	}
}

// carry reports whether one more handler may outlive its answer.
func (g *Guard) carry() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	limit := g.MaxLate
	if limit <= 0 {
		limit = defaultMaxLate
	}
	if g.late >= limit {
		return false
	}
	g.late++
	return true
}

// drop counts out a handler that carry has counted in.
func (g *Guard) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late--
}

// Shutdown waits until all handlers have ended, those among them that have
// outlived their answer. Deliveries that arrive after the call are answered
// with 503. If ctx ends first, the contexts of the handlers that still run are
// cancelled, and Shutdown returns an error that wraps ctx's and says how many
// they are, without waiting for them to heed it; call it once more, with a
// second or two, for that.
//
// Stop the server first ([http.Server.Shutdown]), then the Guard, then what its
// handlers give deliveries to, such as a Pool. The server's Shutdown, too,
// waits for late handlers of HTTP/1 connections: give it a time of its own, and
// do not take it for a failure when that is over. At the end, Close the server.
func (g *Guard) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		g.idle = make(chan struct{})
		if g.running == 0 {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.idle:
		return nil
	default:
	}
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running == 0 {
		return nil
	}
	if g.clock != nil {
		g.clock.cancel(errClosed)
	}
	for k := range g.bubbled {
		k.cancel(errClosed)
	}
	return fmt.Errorf("middleware: Guard.Shutdown: handlers that still run: %d: %w", g.running, context.Cause(ctx))
}

// refuse answers a request that Check has refused with err.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, arrived time.Time, err error) {
	res := Result{Sender: g.Contract.Sender, Key: -1, Err: err}
	res.Outcome, res.Status = judge(err)
	res.Status = g.Contract.allowed(res.Status)
	if res.Outcome != Refused && r.ContentLength != 0 && r.ProtoMajor == 1 {
		// The body has not been read to its end. Without this the server
		// would wait for the rest of it before it answers.
		w.Header().Set("Connection", "close")
	}
	switch res.Outcome {
	case Probed:
		res.Err = nil
		w.WriteHeader(res.Status)
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

// observe tells Observe. A panic of it must not end the process, whichever
// goroutine this is, nor take the answer with it.
func (g *Guard) observe(r *http.Request, res Result) {
	defer func() {
		if recover() != nil {
			slog.Error("middleware: Guard.Observe panicked", "stack", string(debug.Stack()))
		}
	}()
	if g.Observe != nil {
		g.Observe(r, res)
		return
	}
	logResult(r, res)
}

const defaultMaxLate = 1000
