package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hooktrust/hooktrust/middleware"
)

// This file is yours to change.

// agentChatEnded is called for each chat that an agent has ended.
//
// If it returns an error it is called again, after a pause, so it must bear
// repetition; it should heed ctx. The error is logged: put nothing of the event
// in it.
func agentChatEnded(ctx context.Context, e *event) error {
	// YOUR CODE HERE: close the ticket, store the transcript's link, …
	slog.InfoContext(ctx, "agent chat ended",
		"conversation", string(e.Data.ConversationNo), "by_bot", e.Agent.IsAutomated.isTrue())
	return nil
}

// conversationEnded is called for each conversation of which a part is
// complete. Errors are as in agentChatEnded.
func conversationEnded(ctx context.Context, e *event) error {
	// YOUR CODE HERE.
	slog.InfoContext(ctx, "conversation ended", "conversation", string(e.Data.ConversationNo))
	return nil
}

// failed is told of deliveries that are given up. Haptik has had its 200 and
// does not send them again: this is the last that anybody knows of them.
func failed(d *middleware.Delivery, err error) {
	// YOUR CODE HERE: d is fit for encoding/json, to be kept and tried again.
	// The log gets the ID only, since the body is about people.
	slog.Error("given up", "id", d.ID(), "err", err)
}

// attemptTime is how long one attempt may take: without it, an attempt that
// hangs would keep its worker for ever.
const attemptTime = 10 * time.Second

type workFunc = func(context.Context, *middleware.Delivery) error

// work works on a delivery that has been verified and acknowledged. The Pool
// calls it, and calls it again if it returns an error.
func work(ctx context.Context, d *middleware.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	id := d.ID()
	e, err := decode(d.Body)
	if err != nil {
		failed(d, err) // and not returned: the next attempt would read the same bytes
		return nil
	}
	if e.notObject != "" {
		slog.WarnContext(ctx, "a part of the event is not an object, and was left out", "id", id, "part", e.notObject)
	}
	switch e.Name {
	case agentChatComplete, agentChatClose:
		err = agentChatEnded(ctx, e)
	case conversationCompletePartial:
		err = conversationEnded(ctx, e)
	default:
		// Haptik may add events, and wants a 200 for those that nobody needs.
		slog.InfoContext(ctx, "unknown event ignored", "id", id, "event", fmt.Sprintf("%.64s", string(e.Name)))
		return nil
	}
	if err != nil {
		return err
	}
	slog.InfoContext(ctx, "worked on", "id", id, "event", string(e.Name))
	return nil
}
