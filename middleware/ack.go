package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
)

// Ack returns a handler that answers 200 once put has returned nil, and 503 if
// it returns an error: the sender is told that a delivery is kept when it is,
// and not before. put should hand the delivery to what keeps it, such as
// Pool.Put or a durable queue's, and not work on it.
//
// If put has not returned when the answer is due, its context ends and the
// answer is 503, whether put heeds its context or not; the Guard's late answer
// never stands in for it. A put that keeps a delivery all the same has kept one
// that the sender delivers again: what works on them must bear repetition.
//
// put's error goes to the Guard's Observe, never to the client. A panic of put
// is answered with 500.
//
// The handler must be behind a Guard's Handler; without one it answers 500 and
// does not call put. Give it to Handler as it is: if a handler of yours stands
// between and is not done at the deadline before it comes to Ack, the Guard has
// answered 200 by then. put still gets the delivery, with time.
func Ack(put func(context.Context, *Delivery) error) http.Handler {
	if put == nil {
		panic("middleware: Ack of a nil function")
	}
	return ack{put}
}

type ack struct {
	put func(context.Context, *Delivery) error
}

func (a ack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	d, ok := FromContext(ctx)
	if !ok {
		slog.ErrorContext(ctx, "webhook delivery refused: middleware.Ack is not behind a Guard")
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	noter, _ := ctx.Value(noterKey{}).(*received)
	if c, ok := ctx.Value(runKey{}).(*run); ok {
		if c.setStrict(true) {
			// The sender has its 503 and delivers again.
			noter.note(errLateAck)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var cancel context.CancelFunc
		ctx, cancel = c.untilAnswer(ctx)
		defer cancel()
	}
	if err := a.put(ctx, d); err != nil {
		if noter != nil {
			noter.note(fmt.Errorf("middleware: Ack: %w", err))
		}
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
