package main

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"github.com/hooktrust/hooktrust/middleware"
)

// newReceiver returns what answers SalesIQ, and the Guard in it, which is to be
// shut down after the server.
func newReceiver(v middleware.Verifier, b *bot, log *slog.Logger) (http.Handler, *middleware.Guard) {
	guard := &middleware.Guard{
		Verifier: v,
		Contract: middleware.SalesIQ(),
		Late:     http.HandlerFunc(b.late),
		Observe:  observer(log),
		// No Store: to it a visitor's second "yes" may be a retry of the first
		// one, and would not be answered. SalesIQ documents no retries.
	}
	return withTurn(guard.Handler(b)), guard
}

type thinker func(ctx context.Context, req *request) (answer, error)

// bot answers verified deliveries. Nobody but a Guard may call it.
type bot struct {
	think thinker
	log   *slog.Logger

	// afterwards sends the answer to the request with that ID to a visitor
	// who was told to wait. SET IT if your bot may take longer than 9 s: a POST
	// of the answer to https://…/api/v2/{screenname}/callbacks/{id}/response
	// with an OAuth token of the scope SalesIQ.callbacks.UPDATE, see
	// https://www.zoho.com/salesiq/help/developer-section/pending-response-v2.html.
	// If nil, the visitor is asked to try again, and a late answer is lost.
	afterwards func(ctx context.Context, id string, a answer) error
}

func (b *bot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	d, ok := middleware.FromContext(ctx)
	if !ok {
		// Somebody has mounted this without a Guard.
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	req, a := b.answer(ctx, d.Body)
	if turnOf(ctx).finish(a) {
		write(w, a)
		return
	}
	if !b.canFollow(req) {
		b.log.WarnContext(ctx, "the answer came too late and is lost")
		return
	}
	if err := b.afterwards(ctx, string(req.Request.ID), a); err != nil {
		b.log.ErrorContext(ctx, "the answer came too late and could not be sent", "err", err)
	}
}

// answer thinks about a delivery. Every delivery gets an answer, and the
// visitor a human if the bot fails: SalesIQ disables a bot at its fourth
// failure.
func (b *bot) answer(ctx context.Context, body []byte) (*request, answer) {
	sorry := forward("I cannot answer that. I am getting a colleague.")
	req, odd, err := decode(body)
	if err != nil {
		b.log.ErrorContext(ctx, "a verified delivery cannot be read", "err", err)
		return nil, sorry
	}
	if odd != "" {
		b.log.WarnContext(ctx, "a verified delivery has a field of an unexpected type", "field", odd)
	}
	ctx, cancel := context.WithTimeout(ctx, thinkTime)
	defer cancel()
	a, err := b.think(ctx, req)
	if err != nil {
		b.log.ErrorContext(ctx, "the bot has no answer", "err", err)
		return req, sorry
	}
	return req, a
}

// canFollow reports whether an answer to req can be sent later.
func (b *bot) canFollow(req *request) bool {
	return b.afterwards != nil && req != nil && req.Request.ID != ""
}

// late answers for a bot that is not done a second before SalesIQ stops
// waiting.
func (b *bot) late(w http.ResponseWriter, r *http.Request) {
	a := say("I am still thinking about that. Please ask me again in a minute.")
	if d, ok := middleware.FromContext(r.Context()); ok {
		if req, _, _ := decode(d.Body); b.canFollow(req) {
			a = pending("I am still thinking about that. The answer follows.")
		}
	}
	write(w, turnOf(r.Context()).overdue(a))
}

// turn settles between the bot and late whose answer the visitor gets. The
// Guard discards what a handler writes after the deadline and does not tell it;
// without a turn, an answer that is ready in that moment would be lost.
type turn struct {
	mu     sync.Mutex
	late   bool    // the visitor was told to wait
	answer *answer // the bot's, if it was there before
}

// finish is called with the bot's answer and reports whether it is in time.
func (t *turn) finish(a answer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late {
		return false
	}
	t.answer = &a
	return true
}

// overdue returns the bot's answer if there is one, or else wait.
func (t *turn) overdue(wait answer) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answer != nil {
		return *t.answer
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
		switch res.Outcome {
		case middleware.Accepted, middleware.Probed, middleware.LateDone:
			if res.Err == nil && res.Status < 300 {
				level = slog.LevelInfo
			}
		case middleware.Panicked:
			level = slog.LevelError // SalesIQ got a 500, and counts it as a failure
		}
		attrs := []slog.Attr{
			slog.String("outcome", res.Outcome.String()),
			slog.Int("status", res.Status),
			slog.Duration("elapsed", res.Elapsed),
			slog.String("remote", r.RemoteAddr),
		}
		if res.Key >= 0 && res.Key < len(keyVariables) {
			// When the previous key is seen no more, the rotation is over.
			attrs = append(attrs, slog.String("key", keyVariables[res.Key]))
		}
		if res.Err != nil {
			attrs = append(attrs, slog.Any("err", res.Err)) // has no key, signature or body in it
		}
		if res.Stack != "" {
			attrs = append(attrs, slog.String("stack", res.Stack))
		}
		log.LogAttrs(r.Context(), level, "webhook request", attrs...)
	}
}
