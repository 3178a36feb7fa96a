package middleware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// What Result.Err says where it is not another package's error.
var (
	errPanicked = errors.New("middleware: the handler panicked")
	errExited   = errors.New("middleware: the handler ended its goroutine")
	errLate     = errors.New("middleware: the handler is not done at the deadline; it goes on")
	errLateAck  = errors.New("middleware: the delivery is not known to be kept at the deadline")
	errTooMany  = errors.New("middleware: the handler is not done at the deadline, and MaxLate others are not either")
	errRepeated = errors.New("middleware: the delivery was worked on before")
	errPending  = errors.New("middleware: a copy of the delivery is being worked on")
	errClosed   = errors.New("middleware: the Guard is shut down")
)

// How long a Store's methods may take. A Claim gets half of the time until the
// answer is due if that is less, so that the handler has the other half.
const (
	claimTime  = 5 * time.Second
	settleTime = 10 * time.Second
)

// maxMargin is the most that an answer leaves before the deadline.
const maxMargin = time.Second

// answerAfter returns how long after a request's arrival its answer must leave
// to be there within deadline: a second less than that, or a quarter of it if
// that is less. The sender's clock runs from before we see the request. Three
// to four round trips (TCP, TLS, request, answer) lie between, up to a fifth of
// a second each around the world; the rest is for a loaded machine.
func answerAfter(deadline time.Duration) time.Duration {
	return deadline - min(deadline/4, maxMargin)
}

// run is a verified delivery on its way through its handler, and sees to it
// that exactly one answer leaves, in time.
//
// Two goroutines can answer: the handler's when it is done, and the timer's at
// the deadline. Over the server's own HTTP/1 the handler's is the request's,
// and a late answer is flushed while that still runs. Everywhere else (HTTP/2,
// where a stream ends with its request's goroutine, and writers whose Flush
// may put nothing on the wire) the handler has one of its own, and the
// request's only waits for the answer.
type run struct {
	received
	answerBy time.Time   // zero without a deadline
	place    int         // in the clock's alarms, from 1; 0 if it is not there
	header   *headerCopy // the request's; nil without a deadline
	answered chan bool   // told once, with the answer, whether to abort; nil if the handler is in the request's goroutine

	// The handler's goroutine.
	answer  answer
	res     Result
	id      string // Delivery.ID, if there is a Store
	claimed bool   // the Store has a claim to settle
	abort   bool   // end the connection without an answer

	answering sync.Mutex    // of answer.w, too
	over      bool          // the answer has left, or none will
	carried   bool          // among Guard.late
	strict    bool          // never a 200 on the handler's behalf
	told      chan struct{} // closed when Observe was told of a late answer
}

// runContext is the context that a run's handler gets. With a deadline it ends
// only when Guard.Shutdown gives up, and never because the client has its
// answer or has gone.
type runContext run

type (
	noterKey struct{} // of the *received
	runKey   struct{} // of the *run
)

func (c *runContext) Deadline() (time.Time, bool) { return c.life().Deadline() }
func (c *runContext) Done() <-chan struct{}       { return c.life().Done() }
func (c *runContext) Err() error                  { return c.life().Err() }

func (c *runContext) life() context.Context {
	if !c.answerBy.IsZero() {
		return c.clock.base
	}
	return c.request.Context()
}

func (c *runContext) Value(key any) any {
	switch key.(type) {
	case deliveryKey:
		return c.get(c.request.Header)
	case noterKey:
		return &c.received
	case runKey:
		return (*run)(c)
	}
	// Asked first, since package context finds by a Value what it hangs
	// children on that are to end with Done.
	if v := c.life().Value(key); v != nil {
		return v
	}
	return c.request.Context().Value(key)
}

// String keeps fmt from showing the delivery.
func (c *runContext) String() string   { return "middleware.context" }
func (c *runContext) GoString() string { return c.String() }

// headerCopy is a request's header, for those who look at it at the deadline
// while the handler may be changing the request's own.
type headerCopy []headerLine

type headerLine struct{ name, value string }

var headerCopies = sync.Pool{New: func() any { return new(headerCopy) }}

func copyHeader(h http.Header) *headerCopy {
	lines := headerCopies.Get().(*headerCopy)
	for name, values := range h {
		for _, value := range values {
			*lines = append(*lines, headerLine{name, value})
		}
	}
	return lines
}

// release says that nobody will look at it any more.
func (lines *headerCopy) release() {
	clear(*lines)
	*lines = (*lines)[:0]
	headerCopies.Put(lines)
}

// header returns what was copied.
func (lines *headerCopy) header() http.Header {
	h := make(http.Header, len(*lines))
	for _, line := range *lines {
		h[line.name] = append(h[line.name], line.value)
	}
	return h
}

// serve answers the request with what next or, at the deadline, somebody else
// says.
func (c *run) serve(next http.Handler) {
	c.res = c.result(Accepted, nil)
	r := c.verifiedRequest((*runContext)(c))
	inPlace := c.answerBy.IsZero() || isServerWriter(c.answer.w)
	if !inPlace {
		// Somebody may look at the request's header while next changes it.
		r.Header = r.Header.Clone()
		c.answered = make(chan bool, 1)
	}
	_, c.strict = next.(ack)
	if c.guard.Store != nil {
		// As long as it is not known whether a copy of this is being worked
		// on, nobody may say that it is done.
		c.strict = true
	}
	if !c.answerBy.IsZero() {
		c.header = copyHeader(c.request.Header)
		c.clock.alarms.add(c)
	}
	var abort bool
	if inPlace {
		c.handle(next, r)
		abort = c.abort
	} else {
		go c.handle(next, r)
		abort = <-c.answered
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// isServerWriter reports whether w is the writer of net/http's HTTP/1 server
// itself. Of that it is known that Flush puts on the wire what was written.
func isServerWriter(w http.ResponseWriter) bool {
	t := reflect.TypeOf(w)
	if known := serverWriter.Load(); known != nil && *known == t {
		return true
	}
	if t.Kind() != reflect.Pointer || t.Elem().PkgPath() != "net/http" || t.Elem().Name() != "response" {
		return false
	}
	found := t // or t would be allocated on every call
	serverWriter.Store(&found)
	return true
}

// serverWriter is the type that isServerWriter has found, which spares it the
// look at the names.
var serverWriter atomic.Pointer[reflect.Type]

// handle calls next, unless the Store knows better, and concludes.
func (c *run) handle(next http.Handler, r *http.Request) {
	defer c.conclude() // also if next ends the goroutine
	returned := false
	defer func() {
		if returned {
			return
		}
		if c.abort = panicked(recover(), &c.res); !c.abort {
			c.answer.replace(c.guard.Contract.allowed(http.StatusInternalServerError))
		}
	}()
	if c.claim(next) {
		next.ServeHTTP(&c.answer, r)
	}
	returned = true
}

// panicked writes into res what a handler has panicked with, nil if it has
// ended its goroutine, and reports whether the connection must end with it.
func panicked(value any, res *Result) (abort bool) {
	res.Outcome = Panicked
	if value == http.ErrAbortHandler {
		res.Err = fmt.Errorf("%w: %w", errPanicked, http.ErrAbortHandler)
		return true
	}
	res.Stack = string(debug.Stack())
	switch v := value.(type) {
	case nil:
		res.Err = errExited
	case runtime.Error:
		res.Err = fmt.Errorf("%w: %w", errPanicked, v)
	default:
		// The value itself may hold anything, the body among it.
		res.Err = fmt.Errorf("%w with a value of type %T", errPanicked, value)
	}
	return false
}

// claim reports whether next is to run.
func (c *run) claim(next http.Handler) bool {
	if c.guard.Store == nil {
		return true
	}
	c.id = deliveryID(c.guard.Contract.Sender, c.body)
	limit := claimTime
	if !c.answerBy.IsZero() {
		limit = min(limit, time.Until(c.answerBy)/2)
	}
	ctx, cancel := context.WithTimeout((*runContext)(c), limit)
	defer cancel()
	state, err := c.guard.Store.Claim(ctx, c.id)
	switch {
	case err != nil:
		c.note(fmt.Errorf("middleware: Store.Claim failed, so the handler ran: %w", err))
	case state == Fresh:
		c.claimed = true
	case state == Done:
		c.res.Outcome, c.res.Err = Repeated, errRepeated
		c.answer.status = http.StatusOK
		return false
	default:
		c.res.Outcome, c.res.Err = Pending, errPending
		c.answer.replace(c.guard.Contract.allowed(http.StatusServiceUnavailable))
		return false
	}
	_, strict := next.(ack)
	if c.setStrict(strict) {
		// Answered with 503 meanwhile: the sender comes again.
		c.res.Outcome, c.res.Err = Pending, errLateAck
		c.answer.status = http.StatusServiceUnavailable
		return false
	}
	return true
}

// setStrict says whether a late answer may be 200, and reports whether there
// was one that was not.
func (c *run) setStrict(strict bool) (refused bool) {
	c.answering.Lock()
	defer c.answering.Unlock()
	c.strict = strict
	return c.over && !c.carried
}

// untilAnswer returns ctx, ending when the answer is due. If that has been
// answered with 200, by Late, ctx has all the time there is.
func (c *run) untilAnswer(ctx context.Context) (context.Context, context.CancelFunc) {
	c.answering.Lock()
	defer c.answering.Unlock()
	if c.answerBy.IsZero() || c.carried {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, c.answerBy)
}

// late answers for a handler that is not done when the answer is due.
func (c *run) late() {
	c.answering.Lock()
	if c.over {
		c.answering.Unlock()
		return
	}
	c.over = true
	c.told = make(chan struct{})
	c.answer.gone.Store(true)
	r := c.request.WithContext(c.request.Context())
	r.Header = c.header.header()
	res := c.result(Late, errLate)
	a := &answer{w: c.answer.w, limit: c.answer.limit}
	switch {
	case c.strict:
		res.Err = errLateAck
		a.replace(c.guard.Contract.allowed(http.StatusServiceUnavailable))
	case !c.guard.carry():
		res.Outcome, res.Err = Overloaded, errTooMany
		a.replace(c.guard.Contract.allowed(http.StatusServiceUnavailable))
	default:
		c.carried = true
		c.callLate(a, r, &res)
	}
	if err := a.send(c.answered == nil); err != nil {
		res.Err = errors.Join(res.Err, err)
	}
	res.Status = a.own()
	c.answering.Unlock()
	if c.answered != nil {
		c.answered <- false
	}
	res.Elapsed = time.Since(c.at)
	c.guard.observe(r, res)
	close(c.told)
}

// callLate lets Guard.Late make the answer.
func (c *run) callLate(a *answer, r *http.Request, res *Result) {
	if c.guard.Late == nil {
		a.status = http.StatusOK
		return
	}
	returned := false
	defer func() {
		if !returned {
			_ = panicked(recover(), res)
			a.replace(c.guard.Contract.allowed(http.StatusInternalServerError))
		}
	}()
	c.get(r.Header) // so that nobody makes the Delivery of the header that next may be changing
	r = r.WithContext((*runContext)(c))
	setBody(r, (*verifiedBody)(bytes.NewReader(c.body)), len(c.body))
	c.guard.Late.ServeHTTP(a, r)
	returned = true
	if outcome, err := a.enforce(&c.guard.Contract); err != nil {
		res.Outcome, res.Err = outcome, err
	}
}

// conclude settles, answers if nobody has, and tells Observe.
func (c *run) conclude() {
	defer c.guard.leave(c.clock)
	status := c.answer.own()
	if c.res.Outcome == Accepted && !c.answer.gone.Load() {
		c.res.Outcome, c.res.Err = c.answer.enforce(&c.guard.Contract)
	}
	if c.claimed {
		c.settle(c.res.Outcome == Accepted && status >= 200 && status < 300)
	}
	c.answering.Lock()
	inTime := !c.over
	if inTime {
		c.over = true
		if !c.answerBy.IsZero() {
			c.clock.alarms.remove(c)
			c.header.release()
		}
		status = c.answer.own()
		if !c.abort {
			if err := c.answer.send(false); err != nil {
				c.res.Err, c.abort = errors.Join(c.res.Err, err), true
			}
		}
		if c.abort {
			status = 0
		}
	} else {
		c.abort = false
		if c.res.Outcome == Accepted {
			c.res.Outcome = LateDone
		}
		if c.carried {
			c.guard.drop()
		}
	}
	c.answering.Unlock()
	if !inTime {
		<-c.told
		c.res.Afterwards = true
	}
	c.res.Status = status
	c.tell(c.request, c.res)
	if inTime && c.answered != nil {
		c.answered <- c.abort
	}
}

// settle tells the Store how the handler ended. The request may be over.
func (c *run) settle(done bool) {
	defer func() {
		if recover() != nil {
			c.note(errors.New("middleware: Store.Settle panicked"))
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel((*runContext)(c)), settleTime)
	defer cancel()
	if err := c.guard.Store.Settle(ctx, c.id, done); err != nil {
		c.note(fmt.Errorf("middleware: Store.Settle failed, so a retry may run again: %w", err))
	}
}
