package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/hooktrust/hooktrust/hmac"
	"github.com/hooktrust/hooktrust/middleware"
)

// observer is told of every request, as a Guard's Observe is, and whether this
// is the answer or what came after it.
//
// A request whose handler outlives its answer is told of twice: when it is
// answered, and when the handler ends. The answer is what counts as the request:
// it is what the sender knows, and every request has exactly one. How the
// handler ended is counted apart, under afterwards.
type observer func(r *http.Request, res middleware.Result, afterwards bool)

// observe returns a Guard's Observe that tells each of the observers.
func observe(observers ...observer) func(*http.Request, middleware.Result) {
	return func(r *http.Request, res middleware.Result) {
		afterwards := isAfterwards(r, res)
		for _, o := range observers {
			o(r, res, afterwards)
		}
	}
}

type answeredKey struct{} // of an *atomic.Bool

// marked goes around a Guard's handler and lets observe recognise a request
// that it is told of a second time. Without it a panic after a late answer is
// counted as one more request.
func marked(guarded http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithValue(r.Context(), answeredKey{}, new(atomic.Bool))
		guarded.ServeHTTP(w, r.WithContext(ctx))
	})
}

// isAfterwards reports whether r's answer was told of before. A Result does not
// say, except by the outcomes Late and LateDone. With others the order in which
// they are told decides; it is not promised for a handler that panics in the
// very moment of the deadline, which may then be counted as two requests.
func isAfterwards(r *http.Request, res middleware.Result) bool {
	answered, ok := r.Context().Value(answeredKey{}).(*atomic.Bool)
	if !ok {
		return res.Outcome == middleware.LateDone
	}
	switch res.Outcome {
	case middleware.Late:
		answered.Store(true)
		return false
	case middleware.LateDone:
		return true
	}
	return answered.Swap(true)
}

// The values of labels must be few, whatever the internet sends: every
// combination of them is a time series for as long as the process lives. The
// sender's name is the Contract's and the outcome one of 15, and these are the
// others.

// keyLabel returns the index of the key that matched: "0" to "7", "other"
// above, and "none" if the Verifier does not tell.
func keyLabel(key int) string {
	switch {
	case key < 0:
		return "none"
	case key > 7:
		return "other"
	}
	return strconv.Itoa(key)
}

// statusLabel returns "2xx" and so on, and "none" for a connection that was
// ended without an answer.
func statusLabel(status int) string {
	if status < 100 || status > 599 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}

// Reasons for a refusal, by what is probably behind it.
const (
	reasonMissing   = "missing"   // a scanner, or a proxy that removes the header
	reasonMalformed = "malformed" // another encoding than configured
	reasonMismatch  = "mismatch"  // another key, a body changed on its way, or a forgery
	reasonOther     = "other"     // a Verifier's own error
)

func reasonLabel(err error) string {
	switch { // the errors of hmac are those of rsasig and dsasig, too
	case errors.Is(err, hmac.ErrMissing):
		return reasonMissing
	case errors.Is(err, hmac.ErrMalformed):
		return reasonMalformed
	case errors.Is(err, hmac.ErrMismatch):
		return reasonMismatch
	}
	return reasonOther
}

// verified reports whether a request with this outcome was a delivery with a
// good signature. Of others nothing is known, not even the size.
func verified(o middleware.Outcome) bool {
	switch o {
	case middleware.Probed, middleware.Refused, middleware.BadMethod,
		middleware.TooLarge, middleware.TooSlow, middleware.CutOff:
		return false
	}
	return true
}

// Upper bounds of the histograms' buckets. Of the durations some stand where
// answers must leave: a second before the sender's deadline of 5 or 10 s.
var (
	secondsBuckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 9, 10, 30, 60}
	bytesBuckets   = []float64{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20}
)
