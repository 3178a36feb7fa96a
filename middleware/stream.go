package middleware

import (
	"context"
	"net/http"
	"time"
)

// stream is a verified request on its way through a handler under a contract
// with no term that would need the answer held back. It is the context that
// the handler gets.
type stream struct {
	received
	recorder
}

func (c *stream) Deadline() (time.Time, bool) { return c.request.Context().Deadline() }
func (c *stream) Done() <-chan struct{}       { return c.request.Context().Done() }
func (c *stream) Err() error                  { return c.request.Context().Err() }

func (c *stream) Value(key any) any {
	switch key.(type) {
	case deliveryKey:
		return c.get(c.request.Header)
	case noterKey:
		return &c.received
	}
	return c.request.Context().Value(key)
}

// String keeps fmt from showing the delivery.
func (c *stream) String() string   { return "middleware.context" }
func (c *stream) GoString() string { return c.String() }

var _ context.Context = (*stream)(nil)

func (c *stream) serve(next http.Handler) {
	defer c.guard.leave(c.clock)
	res := c.result(Accepted, nil)
	returned := false
	defer func() {
		abort := false
		if !returned {
			abort = panicked(recover(), &res)
			if abort = abort || c.status != 0; !abort {
				status := c.guard.Contract.allowed(http.StatusInternalServerError)
				http.Error(&c.recorder, http.StatusText(status), status)
			}
		}
		res.Status = c.status
		c.tell(c.request, res)
		if abort {
			panic(http.ErrAbortHandler)
		}
	}()
	next.ServeHTTP(&c.recorder, c.verifiedRequest(c))
	returned = true
	if c.status == 0 {
		c.status = http.StatusOK // net/http sends it for a handler that sends nothing
	}
}

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
