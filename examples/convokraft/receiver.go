package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"github.com/hooktrust/hooktrust/dsasig"
	"github.com/hooktrust/hooktrust/middleware"
)

// newReceiver returns what answers ConvoKraft, and the Guard in it, which is to
// be shut down after the server.
func newReceiver(v middleware.Verifier, b *bot, log *slog.Logger) (http.Handler, *middleware.Guard) {
	guard := &middleware.Guard{
		Verifier: v,
		Contract: middleware.ConvoKraft(),
		Late:     http.HandlerFunc(b.late),
		Observe:  observer(log),
		// No Store: to it a user's second "yes" may be a retry of the first
		// one, and would not be answered. ConvoKraft documents no retries.
	}
	return withTurn(guard.Handler(b)), guard
}

type worker func(ctx context.Context, req *request) (response, error)

// bot answers verified deliveries. Nobody but a Guard may call it.
type bot struct {
	work worker
	log  *slog.Logger

	// afterwards is given the response to a user who was told that it takes
	// longer. SET IT if your work may take longer than 4 s: ConvoKraft
	// documents no way to send the response later, so write an e-mail, or keep
	// it for when the user asks again. If nil, such a response is lost.
	afterwards func(ctx context.Context, req *request, resp response) error
}

func (b *bot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	d, ok := middleware.FromContext(ctx)
	if !ok {
		// Somebody has mounted this without a Guard.
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	req, resp := b.respond(ctx, d)
	if turnOf(ctx).finish(resp) {
		write(w, resp)
		return
	}
	if b.afterwards == nil || req == nil {
		b.log.WarnContext(ctx, "the response came too late and is lost")
		return
	}
	if err := b.afterwards(ctx, req, resp); err != nil {
		b.log.ErrorContext(ctx, "the response came too late and could not be kept", "err", err)
	}
}

// respond works on a delivery. Every delivery gets a response: without one
// ConvoKraft shows the user a failure message.
func (b *bot) respond(ctx context.Context, d *middleware.Delivery) (*request, response) {
	sorry := tell("Sorry, that did not work. Please try again.")
	req, odd, err := decode(d.Body)
	if err != nil {
		b.log.ErrorContext(ctx, "a verified delivery cannot be read", "err", err)
		return nil, sorry
	}
	if odd != "" {
		b.log.WarnContext(ctx, "a verified delivery has a field of an unexpected type", "field", odd)
	}
	// When production is seen with the previous key no more, that key can go.
	b.log.InfoContext(ctx, "delivery", "environment", req.Environment, "key", keyName(d.Key), "key_index", d.Key,
		"todo", req.Todo, "action", req.Action)
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	resp, err := b.work(ctx, req)
	switch {
	case err != nil:
		b.log.ErrorContext(ctx, "the work failed", "err", err)
		return req, sorry
	case resp == nil:
		b.log.ErrorContext(ctx, "the work gave no response")
		return req, sorry
	}
	return req, resp
}

// late answers for work that is not done a second before ConvoKraft stops
// waiting.
func (b *bot) late(w http.ResponseWriter, r *http.Request) {
	write(w, turnOf(r.Context()).overdue(tell("This takes longer than usual. I am still working on it.")))
}

// turn settles between the bot and late whose response the user gets. The
// Guard discards what a handler writes after the deadline and does not tell it;
// without a turn, a response that is ready in that moment would be lost.
type turn struct {
	mu       sync.Mutex
	late     bool     // the user was told that it takes longer
	response response // the bot's, if it was there before
}

// finish is called with the bot's response and reports whether it is in time.
func (t *turn) finish(resp response) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late {
		return false
	}
	t.response = resp
	return true
}

// overdue returns the bot's response if there is one, or else wait.
func (t *turn) overdue(wait response) response {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.response != nil {
		return t.response
	}
	t.late = true
	return wait
}

type turnKey struct{}

// withTurn gives each request a turn. It stands outside the Guard, so that the
// bot and late find the same one.
func withTurn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), turnKey{}, new(turn))))
	})
}

func turnOf(ctx context.Context) *turn {
	if t, ok := ctx.Value(turnKey{}).(*turn); ok {
		return t
	}
	return new(turn) // without withTurn, everything is in time
}

// observer returns what logs how each request ended. Count here, too.
func observer(log *slog.Logger) func(*http.Request, middleware.Result) {
	return func(r *http.Request, res middleware.Result) {
		level := slog.LevelWarn
		var hint string
		switch res.Outcome {
		case middleware.Accepted, middleware.LateDone:
			if res.Err == nil && res.Status < 300 {
				level = slog.LevelInfo
			}
		case middleware.Refused:
			hint = hintFor(res.Err)
		case middleware.Panicked:
			level = slog.LevelError
		case middleware.ResponseTooLarge:
			level = slog.LevelError
			hint = "the user was shown a failure: leave out some of the options, cards or data"
		}
		attrs := []slog.Attr{
			slog.String("outcome", res.Outcome.String()),
			slog.Int("status", res.Status),
			slog.Duration("elapsed", res.Elapsed),
			slog.String("remote", r.RemoteAddr),
			slog.String("key", keyName(res.Key)),
			slog.Int("key_index", res.Key),
		}
		if res.Err != nil {
			attrs = append(attrs, slog.Any("err", res.Err)) // has no key, signature or body in it
		}
		if hint != "" {
			attrs = append(attrs, slog.String("hint", hint))
		}
		if res.Stack != "" {
			attrs = append(attrs, slog.String("stack", res.Stack))
		}
		log.LogAttrs(r.Context(), level, "webhook request", attrs...)
	}
}

// hintFor says what to try if genuine deliveries are refused with err, since
// ConvoKraft does not document how it signs.
func hintFor(err error) string {
	switch {
	case errors.Is(err, dsasig.ErrMismatch):
		return "if every delivery is refused so: another key, another CONVOKRAFT_HASH, or the body is changed on its way"
	case errors.Is(err, dsasig.ErrMalformed):
		return "if every delivery is refused so: another CONVOKRAFT_ENCODING or CONVOKRAFT_FORMAT"
	}
	return ""
}

// keyName returns the variable that the key with that index is from.
func keyName(index int) string {
	if index < 0 || index >= len(keyVariables) {
		return "none"
	}
	return keyVariables[index]
}
