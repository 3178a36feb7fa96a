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
	Accepted  Outcome = iota // verified; the handler ran, and Result.Status says how well
	Probed                   // one of the contract's probes; answered 200
	Refused                  // the signature did not verify; answered 401
	BadMethod                // neither POST nor a probe; answered 405
	TooLarge                 // the body has more than MaxBody bytes; answered 413
	TooSlow                  // the body did not arrive in time; answered 408
	CutOff                   // the body ended too early or was not readable; answered 400
	Panicked                 // verified; the handler ran and panicked
)

var outcomes = [...]string{
	Accepted:  "accepted",
	Probed:    "probed",
	Refused:   "refused",
	BadMethod: "bad_method",
	TooLarge:  "too_large",
	TooSlow:   "too_slow",
	CutOff:    "cut_off",
	Panicked:  "panicked",
}

// String returns the outcome in lower case, such as "accepted" or "too_large".
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomes) {
		return "unknown"
	}
	return outcomes[o]
}

// Result is what Guard.Observe is told about a request once it is over.
type Result struct {
	Outcome Outcome
	Sender  string        // Contract.Sender
	Status  int           // status of the answer; 0 if the handler panicked before it answered
	Key     int           // index of the key that matched; -1 if none did or the Verifier does not tell
	Size    int           // bytes of the verified body; 0 if there is none
	Elapsed time.Duration // from the request's arrival at the Guard
	Err     error         // why it was not accepted; contains no secret, key, signature or body
}

// log is Observe's default. What makes the sender count a failure is a warning.
func logResult(r *http.Request, res Result) {
	level, msg := slog.LevelDebug, "webhook delivery accepted"
	switch {
	case res.Outcome == Accepted && res.Status >= 300:
		level, msg = slog.LevelWarn, "webhook delivery verified, but its handler answered with a failure"
	case res.Outcome == Accepted:
	case res.Outcome == Probed:
		msg = "webhook probe answered"
	case res.Outcome == Panicked:
		level, msg = slog.LevelError, "webhook handler panicked"
	default:
		level, msg = slog.LevelWarn, "webhook request refused"
	}
	ctx := context.Background()
	if r != nil {
		ctx = r.Context()
	}
	logger := slog.Default()
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
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
	logger.LogAttrs(ctx, level, msg, attrs...)
}
