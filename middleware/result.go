package middleware

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Outcome is what became of a request. Its values are few and their strings
// short, fit for a metric's label.
type Outcome int

const (
	Accepted         Outcome = iota // verified; the handler ran, and Result.Status says how well
	Probed                          // one of the contract's probes; answered 200
	Refused                         // the signature did not verify; answered 401
	BadMethod                       // neither POST nor a probe; answered 405
	TooLarge                        // the body has more than MaxBody bytes; answered 413
	TooSlow                         // the body did not arrive in time; answered 408
	CutOff                          // the body ended too early or was not readable; answered 400
	Panicked                        // verified; the handler panicked; answered 500 if it was not too late
	Late                            // verified; answered at the deadline for a handler that goes on
	LateDone                        // that handler has ended; Result.Status is its own, which nobody got
	Overloaded                      // verified; answered 503, as MaxLate handlers are late or the Guard is shut down
	Repeated                        // verified; the Store knows it as done; answered 200
	Pending                         // verified; the Store knows it as running; answered 503
	Forbidden                       // verified; the handler's status is one of Contract.Forbidden; answered 500
	ResponseTooLarge                // verified; the handler's answer is larger than MaxResponse; answered 500
)

var outcomes = [...]string{
	Accepted:         "accepted",
	Probed:           "probed",
	Refused:          "refused",
	BadMethod:        "bad_method",
	TooLarge:         "too_large",
	TooSlow:          "too_slow",
	CutOff:           "cut_off",
	Panicked:         "panicked",
	Late:             "late",
	LateDone:         "late_done",
	Overloaded:       "overloaded",
	Repeated:         "repeated",
	Pending:          "pending",
	Forbidden:        "forbidden",
	ResponseTooLarge: "response_too_large",
}

// String returns the outcome in lower case, such as "accepted" or "too_large".
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomes) {
		return "unknown"
	}
	return outcomes[o]
}

// Result is what Guard.Observe is told about a request.
type Result struct {
	Outcome Outcome
	Sender  string        // Contract.Sender
	Status  int           // status of the answer (with LateDone, of one that nobody got); 0 if the connection has ended without one
	Key     int           // index of the key that matched; -1 if none did or the Verifier does not tell
	Size    int           // bytes of the verified body; 0 if there is none
	Elapsed time.Duration // from the request's arrival at the Guard
	Err     error         // what went wrong; contains no secret, key, signature or body, but for what a Store or put has put there
	Stack   string        // of a panic

	// Afterwards: Observe was told of the request before, when it was
	// answered at the deadline, and this is how its handler has ended. Who
	// counts requests leaves it out.
	Afterwards bool
}

// failed reports whether the sender, or the one who waits for the work, is
// worse off than hoped.
func (res Result) failed() bool {
	switch res.Outcome {
	case Accepted, LateDone:
		return res.Status < 200 || res.Status >= 300 || res.Err != nil
	case Probed, Repeated:
		return false
	}
	return true
}

// logResult is Observe's default.
func logResult(r *http.Request, res Result) {
	level := slog.LevelDebug
	switch {
	case res.Outcome == Panicked:
		level = slog.LevelError
	case res.failed():
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if r != nil {
		ctx = r.Context()
	}
	logger := slog.Default()
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs,
		slog.String("sender", res.Sender),
		slog.String("outcome", res.Outcome.String()),
		slog.Int("status", res.Status),
		slog.Int("key", res.Key),
		slog.Int("size", res.Size),
		slog.Duration("elapsed", res.Elapsed),
	)
	if r != nil {
		attrs = append(attrs, slog.String("remote", r.RemoteAddr))
	}
	if res.Err != nil {
		attrs = append(attrs, slog.Any("err", res.Err))
	}
	if res.Stack != "" {
		attrs = append(attrs, slog.String("stack", res.Stack))
	}
	logger.LogAttrs(ctx, level, "webhook request", attrs...)
}
